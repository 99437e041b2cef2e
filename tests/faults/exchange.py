"""HTTP/1.1 as a proxy speaks it, to its client and to the server: h11 on asyncio's streams, one request at a time."""

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit

import h11
import msgspec

Headers = tuple[tuple[bytes, bytes], ...]

read_bytes = 65536

#: They are about one connection, not about the message; the proxy has connections, and a framing, of its own.
HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding"})


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request read whole. Names of headers are in lower case."""

    method: str
    target: str
    headers: Headers
    body: bytes = b""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """An answer read whole, its body packed as it came, or one that the proxy makes."""

    status: int
    headers: Headers = ()
    body: bytes = b""


class Conversation:
    """The server's side of a connection: requests in their order, an answer to each before the next is read.

    Raises, everywhere:
      OSError, h11.RemoteProtocolError: the client has gone, or speaks no HTTP.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._http = h11.Connection(h11.SERVER)

    async def request(self) -> Request | None:
        """The next request; None when the connection is over."""
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        if self._http.our_state is not h11.IDLE:
            return None
        head = await _next_event(self._http, self._reader)
        if not isinstance(head, h11.Request):
            return None
        body = await _body(self._http, self._reader)
        return Request(method=head.method.decode(), target=head.target.decode(), headers=tuple(head.headers), body=body)

    def encoded(self, reply: Reply) -> bytes:
        """The answer to the request just read, as it would be sent."""
        parts = [h11.Response(status_code=reply.status, headers=list(_framed(reply))), h11.EndOfMessage()]
        if reply.body:
            parts.insert(1, h11.Data(data=reply.body))
        return b"".join(self._http.send(part) or b"" for part in parts)

    async def say(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def until_the_client_leaves(self) -> None:
        with suppress(OSError):
            while await self._reader.read(read_bytes):
                pass


async def forwarded(server_url: str, request: Request) -> Reply:
    """Let the server answer, on a connection of its own.

    Raises:
      OSError, h11.RemoteProtocolError: it can't be reached, or has gone before its answer was whole.
    """
    place = urlsplit(server_url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    try:
        http = h11.Connection(h11.CLIENT)
        headers = (*_end_to_end(request.headers), (b"connection", b"close"))
        if request.body:
            headers = (*_without(headers, b"content-length"), _length(request.body))
        head = h11.Request(method=request.method, target=request.target, headers=list(headers))
        body = [h11.Data(data=request.body)] if request.body else []
        for part in (head, *body, h11.EndOfMessage()):
            writer.write(http.send(part) or b"")
        await writer.drain()
        while not isinstance(answer := await _next_event(http, reader), h11.Response):
            if isinstance(answer, h11.ConnectionClosed):
                raise ConnectionResetError("the server has gone without an answer")
        body_read = await _body(http, reader)
        return Reply(status=answer.status_code, headers=_end_to_end(tuple(answer.headers)), body=body_read)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _body(http: h11.Connection, reader: asyncio.StreamReader) -> bytes:
    parts = []
    while isinstance(event := await _next_event(http, reader), h11.Data):
        parts.append(bytes(event.data))
    return b"".join(parts)


async def _next_event(http: h11.Connection, reader: asyncio.StreamReader) -> object:
    while (event := http.next_event()) is h11.NEED_DATA:
        http.receive_data(await reader.read(read_bytes))
    return event


def _framed(reply: Reply) -> Headers:
    """The headers, with the length of the body unless there is none and the length is another's, as after HEAD."""
    if not reply.body and any(name == b"content-length" for name, _ in reply.headers):
        return reply.headers
    return (*_without(reply.headers, b"content-length"), _length(reply.body))


def _length(body: bytes) -> tuple[bytes, bytes]:
    return b"content-length", str(len(body)).encode()


def _end_to_end(headers: Headers) -> Headers:
    return _without(headers, *HOP_BY_HOP)


def _without(headers: Headers, *names: bytes) -> Headers:
    return tuple((name, value) for name, value in headers if name not in names)
