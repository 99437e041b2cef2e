"""A TCP proxy between the broker under test and RabbitMQ, so that a test can break the network."""

import asyncio
import contextlib
import ssl


class Proxy:
    """Forwards to `host:port`; `cut` resets every connection that runs through it, as a dying network would.

    What it forwards at a time is `piece_bytes` at most. With `tls`, clients speak TLS to the proxy, which speaks none
    to the server.
    """

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._host, self._port, self._tls = host, port, tls
        self._silent = False
        self.piece_bytes = 65536
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._clients: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """No new connections either."""
        if self._server is not None:
            self._server.close()
            self.cut()
            await self._server.wait_closed()
            self._server = None
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def fall_silent(self) -> None:
        """From now on nothing the server says arrives, on connections that stay open."""
        self._silent = True

    def speak(self) -> None:
        """The network is well again, for what comes from now on."""
        self._silent = False

    def say(self, frame: bytes) -> None:
        """Say something to every client, as if the server had; only while the connections are quiet."""
        for writer in self._clients:
            writer.write(frame)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, far_writer}
        self._writers |= ends
        self._clients.add(writer)
        try:
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer, to_client=True))
        finally:
            self._writers -= ends
            self._clients.discard(writer)
            for end in ends:
                end.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, to_client: bool = False
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(self.piece_bytes):
                if not (to_client and self._silent):
                    writer.write(data)
                    await writer.drain()
        writer.transport.abort()
