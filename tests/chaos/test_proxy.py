"""The proxy breaks connections inside what is being said, not between two things."""

import socket
import threading
from random import Random

from tests.chaos.proxy import Proxy

FRAME = b"0123456789" * 100


def test_a_cut_connection_delivers_a_part_of_the_next_frame_and_is_gone():
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy = Proxy(server.getsockname()[1], Random(3))
        try:
            with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
                far, _ = server.accept()
                with far:
                    far.settimeout(10)
                    client.sendall(FRAME)
                    assert read_to_the_end(far, len(FRAME)) == FRAME
                    assert proxy.cut_mid_frame() == 1
                    client.sendall(FRAME)
                    part = read_to_the_end(far)
                    assert 0 < len(part) < len(FRAME)
                    assert FRAME.startswith(part)
                    assert read_to_the_end(client) == b""
                    assert proxy.broken == 1
            assert proxied(server, proxy) == FRAME, "and those that come after it are not harmed"
        finally:
            proxy.close()


def proxied(server: socket.socket, proxy: Proxy) -> bytes:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
        far, _ = server.accept()
        with far:
            far.settimeout(10)
            threading.Thread(target=client.sendall, args=(FRAME,)).start()
            return read_to_the_end(far, len(FRAME))


def read_to_the_end(end: socket.socket, limit: int | None = None) -> bytes:
    said = b""
    try:
        while limit is None or len(said) < limit:
            if not (data := end.recv(65536)):
                break
            said += data
    except ConnectionResetError:
        pass
    return said
