"""An HTTP proxy between a connector and a real server that disturbs calls by a plan and counts what it did.

Ours, since nothing that can be installed beside what we use does it: mitmproxy wants an h11 older than httpx does, and
proxies for TCP don't know where a call begins, so that they can't lose just its answer.
"""

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

import h11
from anyio.from_thread import start_blocking_portal

from tests.faults.exchange import Conversation, Reply, Request, forwarded
from tests.faults.fates import Fates, Predicate
from tests.faults.plan import PASSED, Fate, FaultPlan

#: The request that ends the session of another one; None where that has no session, and can't be disturbed this way.
EndSession = Callable[[Request], Request | None]

#: The server could not be reached, or went in the middle of its answer: the client's connection is reset as well.
SERVER_GONE = "server_gone"

_HTML = ((b"content-type", b"text/html"),)
_PAGE = b"<!doctype html><html><head><title>Gateway</title></head><body><h1>Please log in</h1></body></html>"
_NOISE = b'\x00\xff{"result": [1, 2' + bytes(range(128, 192))

MADE_UP = {
    "unavailable": Reply(status=503, headers=_HTML, body=_PAGE),
    "throttled": Reply(status=429, headers=_HTML, body=_PAGE),
    "garbage": Reply(status=200, headers=((b"content-type", b"application/json"),), body=_NOISE),
    "html": Reply(status=200, headers=_HTML, body=_PAGE),
    "expired": Reply(status=401),
}


class _Cut(Exception):
    """The connection ends here: with a reset, or with a plain close."""

    def __init__(self, *, reset: bool) -> None:
        self.reset = reset


class FaultProxy(Fates):
    """Forwards `url` to a server. An asynchronous context manager; `fault_proxy` runs one in a thread of its own.

    Without `end_session`, the fault `expired` is a 401 of the proxy's own. Calls that find the SERVER_GONE are counted
    as that.
    """

    def __init__(
        self,
        server_url: str,
        plan: FaultPlan,
        seed: int,
        *,
        disturbs: Predicate = lambda request: True,
        end_session: EndSession | None = None,
    ) -> None:
        super().__init__(plan, seed, disturbs=disturbs)
        self.server_url, self.url = server_url, ""
        self.counts[SERVER_GONE] = self.called[SERVER_GONE] = 0
        self._end_session = end_session
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "FaultProxy":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for connection in tuple(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of ours, for asyncio complains of one of its own that is cancelled.
        task = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = Conversation(reader, writer)
        try:
            while request := await conversation.request():
                await self._answer(request, conversation)
        except _Cut as cut:
            if cut.reset:
                _reset(writer)
        except (OSError, h11.RemoteProtocolError):
            pass  # the client has gone, or speaks no HTTP
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, request: Request, conversation: Conversation) -> None:
        fate, ordered = self.draw(request)
        if fate.fault == "expired":
            fate = await self._expired(request)
        if fate.fault == "late":
            await self._until_the_client_leaves(conversation)
        reply = await self._ask_server(request) if fate.called else None
        self.count(fate, ordered)
        match fate.fault:
            case "reset_before":
                raise _Cut(reset=True)
            case "lost_after_commit" | "late":
                raise _Cut(reset=False)
            case "hang":
                await self._until_the_client_leaves(conversation)
                raise _Cut(reset=False)
            case "slow":
                await asyncio.sleep(fate.draw * self.plan.slow_ms_max / 1000)
            case "throttled_until":
                wait = (b"retry-after", str(self.plan.retry_after_s).encode())
                reply = Reply(status=429, headers=(*_HTML, wait), body=_PAGE)
            case "garbage" | "html":
                reply = MADE_UP[fate.fault]
        whole = conversation.encoded(reply or MADE_UP[fate.fault])
        if fate.fault == "reset_mid_answer":
            await conversation.say(whole[: 1 + int(fate.draw * (len(whole) - 1))])
            raise _Cut(reset=True)
        await conversation.say(whole)

    async def _until_the_client_leaves(self, conversation: Conversation) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self.plan.hang_ms_max / 1000):
                await conversation.until_the_client_leaves()

    async def _expired(self, request: Request) -> Fate:
        """End the session of the call; what becomes of it then."""
        if self._end_session is None:
            return Fate.of("expired", called=False)
        ending = self._end_session(request)
        if ending is None:
            return Fate.of(PASSED)
        await self._ask_server(ending)
        return Fate.of("expired")

    async def _ask_server(self, request: Request) -> Reply:
        try:
            return await forwarded(self.server_url, request)
        except (OSError, h11.RemoteProtocolError):
            self.count(Fate(SERVER_GONE, called=False), None)
            raise _Cut(reset=True) from None


def _reset(writer: asyncio.StreamWriter) -> None:
    linger_no_time = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_no_time)
    writer.transport.abort()


@contextmanager
def fault_proxy(
    server_url: str,
    plan: FaultPlan,
    seed: int,
    *,
    disturbs: Predicate = lambda request: True,
    end_session: EndSession | None = None,
) -> Iterator[FaultProxy]:
    """A proxy before `server_url` in a thread and loop of its own, until the block ends."""
    proxy = FaultProxy(server_url, plan, seed, disturbs=disturbs, end_session=end_session)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(proxy):
        yield proxy
