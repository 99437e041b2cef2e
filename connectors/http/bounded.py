"""A transport that reads every answer whole, up to a bound: compressed, unpacked and whoever asks for it."""

import zlib
from collections.abc import AsyncIterator

import httpx

#: Why an answer's body can't be trusted, in `response.extensions`; what of it was read is its content.
UNREADABLE = "tieout.unreadable"

#: Nothing else is asked for: `deflate` means two different things to two servers.
ACCEPT_ENCODING = "gzip"


class BoundedTransport(httpx.AsyncBaseTransport):
    """Reads at most `bytes_max` of an answer, counted after unpacking; the rest is never received.

    An answer beyond the bound, or one that can't be unpacked, comes back with its status, its headers, the beginning
    of its body and the reason under UNREADABLE. Authentication reads its answers through this as well.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport, bytes_max: int) -> None:
        self._transport = transport
        self._bytes_max = bytes_max

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._transport.handle_async_request(request)
        unpacking = Unpacking(response.headers.get("content-encoding", ""), self._bytes_max)
        try:
            assert isinstance(response.stream, httpx.AsyncByteStream)
            unreadable = await unpacking.read(response.stream)
        finally:
            await response.aclose()
        headers = [(name, value) for name, value in response.headers.raw if name.lower() not in LEFT_OUT]
        extensions = dict(response.extensions)
        if unreadable:
            extensions[UNREADABLE] = unreadable
        return httpx.Response(
            response.status_code, headers=headers, stream=Read(bytes(unpacking.body)), extensions=extensions
        )

    async def aclose(self) -> None:
        await self._transport.aclose()


#: Headers that were about the body as it travelled.
LEFT_OUT = {b"content-encoding", b"content-length", b"transfer-encoding"}


class Read(httpx.AsyncByteStream):
    """A body that has been read."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body


class Unpacking:
    """Collects a body, unpacked, and stops at the bound: a small bomb must not unfold in memory."""

    def __init__(self, encoding: str, bytes_max: int) -> None:
        self.body = bytearray()
        self._bytes_max = bytes_max
        self._encoding = encoding.strip().lower()
        # 47: gzip or zlib, whichever the header says.
        self._zlib = zlib.decompressobj(47) if self._encoding in ("gzip", "x-gzip", "deflate") else None

    async def read(self, stream: httpx.AsyncByteStream) -> str | None:
        """Read to the end or the bound; returns why the body is not to be trusted, or None."""
        if self._zlib is None and self._encoding not in ("", "identity"):
            return f"its encoding {self._encoding[:40]!r} was not asked for"
        try:
            async for chunk in stream:
                room = self._bytes_max + 1 - len(self.body)
                self.body += self._zlib.decompress(chunk, room) if self._zlib else chunk[:room]
                if len(self.body) > self._bytes_max:
                    del self.body[self._bytes_max :]
                    return f"it is larger than {self._bytes_max} bytes"
        except zlib.error as error:
            return f"it can't be unpacked: {error}"
        if self._zlib and not self._zlib.eof and self.body:
            return "it ends in the middle of its compressed data"
        return None
