"""One call, and what is known about it afterwards."""

import asyncio
import gzip
import socket
import tracemalloc
import zlib
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest
from loguru import logger

from connectors.http.client import Timeouts
from connectors.http.errors import ErrorShape
from connectors.http.outcome import LoginFailed, TargetRefused
from pipeline.codes import TARGET_REFUSED
from pipeline.errors import OutcomeUnknown, PermanentError, TransientError
from tests.unit.connectors.http.calling import calling
from tests.unit.connectors.http.server import Hangup, Reply, Request, Reset, Silence, serving


def answering(*replies: Reply | Exception):
    """One after the other; the last one stays."""
    left = list(replies)

    def handler(request: Request) -> Reply:
        reply = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(reply, Exception):
            raise reply
        return reply

    return handler


async def test_an_answer_has_its_status_headers_and_exact_numbers():
    reply, ours = Reply(body='{"amount": 12.10, "n": 3}', headers={"X-Total": "1"}), {"X-Ours": "yes"}
    async with serving(answering(reply)) as server, calling(server.url + "/api/v1", headers=ours) as client:
        answer = await client.call("GET", "items", params={"limit": 5})
    assert (answer.status, answer.headers["x-total"]) == (200, "1")
    assert answer.body == {"amount": Decimal("12.10"), "n": 3}
    assert str(answer.body["amount"]) == "12.10"
    request = server.requests[0]
    assert (request.path, request.query) == ("/api/v1/items", {"limit": "5"})
    assert (request.headers["x-ours"], request.headers["accept-encoding"]) == ("yes", "gzip")


@pytest.mark.parametrize(("decimals", "sent"), [("string", b'{"hours":"7.50"}'), ("number", b'{"hours":7.50}')])
async def test_decimals_are_sent_as_the_target_takes_them(decimals, sent):
    async with serving(answering(Reply(status=204))) as server, calling(server.url, decimals=decimals) as client:
        answer = await client.call("POST", "/lines", json={"hours": Decimal("7.50")})
    assert answer.body is None
    assert server.requests[0].body == sent


async def test_a_target_that_is_not_there_was_certainly_not_called():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with calling(f"http://127.0.0.1:{unused.getsockname()[1]}") as client:
            with pytest.raises(TransientError, match="can't be reached") as raised:
                await client.call("POST", "/", json={})
    assert not isinstance(raised.value, OutcomeUnknown)


async def test_a_name_that_is_not_there_was_certainly_not_called():
    async with calling("http://erp.invalid") as client:
        with pytest.raises(TransientError, match="can't be reached") as raised:
            await client.call("POST", "/", json={})
    assert not isinstance(raised.value, OutcomeUnknown)


async def test_a_write_that_waits_in_vain_for_a_connection_was_not_sent():
    arrived = asyncio.Event()

    def handler(request: Request) -> Reply:
        arrived.set()
        raise Silence

    async with serving(handler) as server:
        options = {"connections_max": 1, "timeouts": Timeouts(pool_ms=20)}
        async with calling(server.url, **options) as client:
            first = asyncio.create_task(client.call("POST", "/", json={}))
            await arrived.wait()
            with pytest.raises(TransientError, match="PoolTimeout") as raised:
                await client.call("POST", "/", json={})
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
    assert not isinstance(raised.value, OutcomeUnknown)


LOST = {
    "closed after the request": Hangup(),
    "silent": Silence(),
    "reset after the request": Reset(),
    "closed in the middle of the head": Reply(body={"id": 1}, cut=20),
    "closed after the head": Reply(body={"id": 1}, cut=-9),
    "closed in the middle of the body": Reply(body={"id": 1, "padding": "x" * 500}, cut=300),
    "bad gateway": Reply(status=502, body="<html><title>502 Bad Gateway</title></html>"),
    "gateway time-out": Reply(status=504),
    "server error": Reply(status=500, body="<h1>Internal Server Error</h1>"),
    "redirected": Reply(status=303, headers={"Location": "/elsewhere"}),
    "redirected to nonsense": Reply(status=302, headers={"Location": "http://[:::"}),
    "not the JSON it says it is": Reply(body='{"id": 1', headers={"Content-Type": "application/json"}),
    "a page instead of JSON": Reply(body="<html>Please log in</html>", headers={"Content-Type": "text/html"}),
    "bytes": Reply(body=b"\x00\xff\xfe\x80" * 50),
    "too large": Reply(body={"x": "y" * 5000}),
    "a small bomb": Reply(body=gzip.compress(b"[" + b" " * 50_000_000), headers={"Content-Encoding": "gzip"}),
    "badly packed": Reply(body=b"not gzip", headers={"Content-Encoding": "gzip"}),
    "half packed": Reply(body=gzip.compress(b'{"a": 1}' * 200)[:-20], headers={"Content-Encoding": "gzip"}),
    "packed in another way": Reply(body=b"xyz", headers={"Content-Encoding": "br"}),
    "nested without end": Reply(body="[" * 4000, headers={"Content-Type": "application/json"}),
    "without what it must have": Reply(status=201, body={"d": {}}),
}


TIGHT = {"answer_bytes_max": 4096, "timeouts": Timeouts(read_ms=100)}


@pytest.mark.parametrize("moment", LOST)
async def test_a_write_whose_answer_is_lost_is_unknown_and_never_repeated(moment):
    async with serving(answering(LOST[moment])) as server, calling(server.url, **TIGHT) as client:
        with pytest.raises(OutcomeUnknown, match=r"^erp "):
            await client.call("POST", "/", json={"a": 1}, expects="/id")
    assert len(server.requests) == 1


@pytest.mark.parametrize("moment", LOST)
async def test_a_read_whose_answer_is_lost_is_asked_again(moment):
    replies = answering(LOST[moment], Reply(body={"id": 7}))
    async with serving(replies) as server, calling(server.url, **TIGHT) as client:
        assert (await client.call("GET", "/", expects="/id")).body == {"id": 7}
    assert len(server.requests) == 2


async def test_a_small_bomb_does_not_unfold_in_memory():
    async with serving(answering(LOST["a small bomb"])) as server, calling(server.url, **TIGHT) as client:
        tracemalloc.start()
        try:
            with pytest.raises(OutcomeUnknown, match="it is larger than 4096 bytes"):
                await client.call("POST", "/", json={})
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak_bytes < 5_000_000


async def test_a_read_is_given_up_after_so_many_attempts():
    async with serving(answering(Reply(status=503))) as server, calling(server.url, read_attempts_max=3) as client:
        with pytest.raises(TransientError, match="503"):
            await client.call("GET", "/")
    assert len(server.requests) == 3


async def test_a_post_that_only_reads_is_asked_again():
    async with serving(answering(Hangup(), Reply(body=[]))) as server, calling(server.url) as client:
        assert (await client.call("POST", "/search", json={}, writes=False)).body == []
    assert [request.body for request in server.requests] == [b"{}", b"{}"]


async def test_a_target_that_asks_for_a_long_wait_is_left_to_the_broker():
    replies = answering(Reply(status=429, headers={"Retry-After": "60"}))
    async with serving(replies) as server, calling(server.url) as client:
        with pytest.raises(TransientError) as raised:
            await client.call("GET", "/")
    assert (raised.value.retry_after_ms, raised.value.burns_attempt) == (60_000, False)
    assert len(server.requests) == 1


async def test_an_answer_that_trickles_is_bounded_as_a_whole():
    hung_up = asyncio.Event()

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        try:
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.001)
        except ConnectionError:
            writer.close()
        finally:
            hung_up.set()

    async with await asyncio.start_server(trickle, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with calling(url, timeouts=Timeouts(total_ms=100)) as client:
            with pytest.raises(OutcomeUnknown, match="not within 100 ms"):
                await client.call("POST", "/", json={})
        # No connection outlives its test to be complained of in the next.
        await hung_up.wait()


async def test_a_refusal_has_its_fault_and_is_not_repeated():
    reply = Reply(status=422, body={"message": "Please give your project a title", "field": "title", "code": "E1"})
    async with serving(answering(reply)) as server, calling(server.url) as client:
        with pytest.raises(TargetRefused) as raised:
            await client.call("GET", "/")
    assert raised.value.code == TARGET_REFUSED
    assert (raised.value.fault.code, raised.value.fault.field) == ("E1", "title")
    assert str(raised.value) == "erp answered 422: E1 at title: Please give your project a title"
    assert len(server.requests) == 1


@pytest.mark.parametrize("large", [False, True])
async def test_a_refusal_is_known_whatever_its_page_looks_like(large):
    reply = Reply(status=404, body="<h1>Not here</h1>" + "<p>x" * (5000 if large else 1))
    async with serving(answering(reply)) as server, calling(server.url, answer_bytes_max=4096) as client:
        with pytest.raises(TargetRefused, match="Not here"):
            await client.call("POST", "/", json={})
        assert (await client.call("GET", "/", accept=(404,))).status == 404


async def test_credentials_never_go_to_another_host():
    handler = answering(Reply(body=[]))
    async with serving(handler) as stranger, serving(handler) as server, calling(server.url) as client:
        await client.call("GET", server.url + "/next?page=2")
        with pytest.raises(PermanentError, match="our credentials don't go there"):
            await client.call("GET", stranger.url + "/next?page=2")
    assert stranger.requests == []
    assert server.requests[0].query == {"page": "2"}


async def test_no_cookie_is_kept_that_nobody_declared():
    reply = Reply(body=[], headers={"Set-Cookie": "sid=1; Path=/"})
    async with serving(answering(reply)) as server, calling(server.url) as client:
        await client.call("GET", "/")
        await client.call("GET", "/")
    assert "cookie" not in server.requests[1].headers


async def test_the_gate_is_entered_around_each_request_and_sees_its_error():
    passed: list[str] = []

    @asynccontextmanager
    async def gate():
        passed.append("in")
        try:
            yield
        except TransientError as error:
            passed.append(type(error).__name__)
            raise
        passed.append("out")

    async with (
        serving(answering(Reply(status=503), Reply(body=[]))) as server,
        calling(server.url, gate=gate) as client,
    ):
        await client.call("GET", "/")
    assert passed == ["in", "TransientError", "in", "out"]


async def test_what_the_gate_refuses_is_not_sent():
    @asynccontextmanager
    async def gate():
        raise TransientError("the circuit is open", burns_attempt=False, retry_after_ms=30_000)
        yield

    async with serving(answering(Reply(body=[]))) as server, calling(server.url, gate=gate) as client:
        with pytest.raises(TransientError, match="the circuit is open"):
            await client.call("POST", "/", json={})
    assert server.requests == []


async def test_each_item_of_a_bulk_answer_has_its_own_outcome():
    shape = ErrorShape(
        items="", item=ErrorShape(ok="/success", code=("/errors/0/statusCode",), message=("/errors/*/message",))
    )
    body = [
        {"success": True, "id": "1", "errors": []},
        {"success": False, "errors": [{"statusCode": "DUPLICATE_VALUE", "message": "already there"}]},
    ]
    async with serving(answering(Reply(body=body))) as server, calling(server.url, errors=shape) as client:
        answer = await client.call("PATCH", "/composite/sobjects", json={})
        done, refused = client.outcomes(answer, 2)
        with pytest.raises(OutcomeUnknown, match="3 items were sent in bulk and 2 outcomes came back"):
            client.outcomes(answer, 3)
    assert done is None
    assert isinstance(refused, TargetRefused)
    assert (refused.fault.item, refused.fault.code) == (1, "DUPLICATE_VALUE")


async def test_a_log_line_has_the_path_and_nothing_that_was_said():
    lines: list[str] = []
    sink = logger.add(lines.append, level="DEBUG", format="{message} {extra}")
    try:
        async with serving(answering(Reply(body={"name": "Ada"}))) as server, calling(server.url) as client:
            await client.call("POST", "/people", json={"name": "Ada"}, params={"q": "Ada"})
    finally:
        logger.remove(sink)
    assert [line for line in lines if "http_call" in line] == lines
    assert len(lines) == 1
    assert lines[0].startswith("POST /people 200 ")
    assert "Ada" not in lines[0]


async def test_not_being_let_in_is_nobodys_document():
    async with serving(answering(Reply(status=401))) as server, calling(server.url) as client:
        with pytest.raises(LoginFailed, match="check the target's address and credentials"):
            await client.call("GET", "/")
    assert len(server.requests) == 1


@pytest.mark.parametrize("packed", [gzip.compress, zlib.compress])
async def test_a_packed_answer_is_unpacked(packed):
    encoding = "gzip" if packed is gzip.compress else "deflate"
    reply = Reply(body=packed(b'{"a":1}'), headers={"Content-Encoding": encoding, "Content-Type": "application/json"})
    async with serving(answering(reply)) as server, calling(server.url) as client:
        assert (await client.call("GET", "/")).body == {"a": 1}
