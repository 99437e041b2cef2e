"""A TCP proxy between the product and a server, that can break its connections in the middle of what is being said."""

import asyncio
import threading
from random import Random

import msgspec


class _Connection(msgspec.Struct, eq=False):
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    #: Break after a part of what comes next, from either side.
    doomed: bool = False


class Proxy:
    """Forwards 127.0.0.1:`port` to `server_port`, in a thread of its own."""

    def __init__(self, server_port: int, random: Random) -> None:
        self.port, self.broken = 0, 0
        self._server_port, self._random = server_port, random
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()), daemon=True)
        self._thread.start()
        self._started.wait()

    def cut_mid_frame(self) -> int:
        """Break every connection in the middle of the next thing said on it; returns how many there are."""
        return asyncio.run_coroutine_threadsafe(self._doom(), self._loop).result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    async def _doom(self) -> int:
        for connection in self._connections:
            connection.doomed = True
        return len(self._connections)

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()
        for connection in tuple(self._connections):
            _break(connection)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:  # the server is down: so is the proxy, as far as its client can see
            writer.transport.abort()
            return
        connection = _Connection(writer, far_writer)
        self._connections.add(connection)
        try:
            await asyncio.gather(self._pump(reader, far_writer, connection), self._pump(far_reader, writer, connection))
        finally:
            self._connections.discard(connection)
            _break(connection)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: _Connection) -> None:
        try:
            while data := await reader.read(65536):
                if connection.doomed and len(data) > 1:
                    writer.write(data[: self._random.randrange(1, len(data))])
                    await writer.drain()
                    self.broken += 1
                    break
                writer.write(data)
                await writer.drain()
        except OSError:
            pass  # either side has gone: so does the other
        _break(connection)


def _break(connection: _Connection) -> None:
    connection.client.transport.abort()
    connection.server.transport.abort()
