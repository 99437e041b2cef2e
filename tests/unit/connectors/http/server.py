"""A real HTTP server on a port of its own, whose answers, silences and broken connections a test decides."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def form(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.body.decode()).items()}


@dataclass
class Reply:
    """`cut` sends so many bytes of the whole answer, head included, and closes; `raw` is sent as it is, and closes."""

    status: int = 200
    body: bytes | str | dict | list | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    raw: bytes | None = None


class Hangup(Exception):
    """Raised by a handler: the connection is closed without an answer."""


class Reset(Exception):
    """Raised by a handler: the connection is reset (RST) without an answer."""


class Silence(Exception):
    """Raised by a handler: nothing is sent until the client leaves."""


Handler = Callable[[Request], Reply | Awaitable[Reply]]


class Server:
    """Records what it is asked in `requests`; `handler` makes the answers."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.requests: list[Request] = []
        self.url = ""
        self.connections, self.idle = 0, asyncio.Event()
        self.idle.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.idle.clear()
        try:
            while request := await read_request(reader):
                self.requests.append(request)
                reply = self.handler(request)
                reply = reply if isinstance(reply, Reply) else await reply
                writer.write(encoded(reply) if reply.raw is None else reply.raw)
                await writer.drain()
                if reply.cut is not None or reply.raw is not None:
                    return
        except Silence:
            await reader.read()
        except Reset:
            linger_no_time = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_no_time)
        except (Hangup, ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            self.connections -= 1
            if not self.connections:
                self.idle.set()


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    parts = urlsplit(target)
    query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    return Request(method, parts.path, query, headers, body)


def encoded(reply: Reply) -> bytes:
    body, headers = reply.body, {"Content-Type": "text/plain", **reply.headers}
    if isinstance(body, dict | list):
        body, headers = json.dumps(body), {"Content-Type": "application/json", **reply.headers}
    body = body.encode() if isinstance(body, str) else body or b""
    head = "".join(f"{name}: {value}\r\n" for name, value in {**headers, "Content-Length": str(len(body))}.items())
    if reply.status == 204:
        head = ""
    return (f"HTTP/1.1 {reply.status} Any\r\n{head}\r\n".encode() + body)[: reply.cut]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[Server]:
    server = Server(handler)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    async with listening:
        yield server
    # The client is closed by now; no connection outlives its test to be complained of in the next.
    await server.idle.wait()
