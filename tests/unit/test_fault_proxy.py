"""The fault proxy does what its plan says to the calls it says, and nothing to the others."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.http.client import Timeouts
from pipeline.errors import OutcomeUnknown, TransientError
from tests.faults.exchange import Request as Forwarded
from tests.faults.plan import FAULTS, PASSED, FaultPlan, fate_of
from tests.faults.proxy import SERVER_GONE, fault_proxy
from tests.unit.connectors.http.calling import calling
from tests.unit.connectors.http.server import Hangup, Reply, Request, Server, serving

CALM = FaultPlan(share=0)

#: What a client of ours is told, by fault and by whether the server got the call.
TOLD = {
    "reset_before": OutcomeUnknown,
    "reset_mid_answer": OutcomeUnknown,
    "lost_after_commit": OutcomeUnknown,
    "unavailable": TransientError,
    "throttled": TransientError,
    "throttled_until": TransientError,
    "garbage": OutcomeUnknown,
    "html": OutcomeUnknown,
    "expired": TransientError,
    "hang": OutcomeUnknown,
    "late": OutcomeUnknown,
}


def echo(request: Request) -> Reply:
    return Reply(
        body={"method": request.method, "path": request.path, "query": request.query, "length": len(request.body)}
    )


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving(echo) as server:
        yield server


def only(fault: str, **settings: int) -> FaultPlan:
    return FaultPlan(share=1, **{fault: 1}, **settings)


# The plan


def test_every_fault_has_a_share_in_the_plan():
    assert set(FAULTS) < set(FaultPlan.__struct_fields__)
    assert set(FAULTS) == TOLD.keys() | {"slow"}


def test_what_has_no_share_of_its_own_gets_an_equal_part_of_the_rest():
    shares = FaultPlan(share=0.1, lost_after_commit=0.03, hang=0).shares()
    assert (shares.pop("lost_after_commit"), shares.pop("hang")) == (0.03, 0)
    assert list(shares.values()) == [pytest.approx(0.07 / 10)] * 10


@pytest.mark.parametrize("shares", [{"share": 1.1}, {"share": 0.1, "hang": -0.1}, {"share": 0.1, "hang": 0.2}])
def test_shares_that_make_no_sense_are_refused(shares):
    with pytest.raises(ValueError, match="share"):
        FaultPlan(**shares)


def test_over_many_calls_each_fault_comes_as_often_as_planned():
    plan, calls = FaultPlan(share=0.5, lost_after_commit=0.2), 20_000
    seen = Counter(fate_of(plan, 7, number).fault for number in range(calls))
    assert {fault: seen[fault] / calls for fault in FAULTS} == pytest.approx(plan.shares(), abs=0.015)
    assert seen[PASSED] / calls == pytest.approx(0.5, abs=0.015)


@given(st.integers(), st.integers(min_value=1, max_value=10**6))
def test_the_same_seed_and_number_have_the_same_fate(seed, number):
    plan = FaultPlan(share=0.9)
    assert fate_of(plan, seed, number) == fate_of(plan, seed, number)


def test_another_seed_disturbs_other_calls():
    def disturbed(seed: int) -> list[int]:
        return [number for number in range(1000) if fate_of(FaultPlan(share=0.1), seed, number).fault != PASSED]

    assert disturbed(1) != disturbed(2)


# What passes


async def test_calls_pass_whole_and_in_order_on_one_connection(server):
    with fault_proxy(server.url, CALM, 1) as proxy:
        limits = httpx.Limits(max_connections=1)
        async with httpx.AsyncClient(base_url=proxy.url, trust_env=False, limits=limits) as client:
            answers, ports = [], set()
            for n in range(20):
                answers.append(await client.post(f"/{n}", params={"a": "b c"}, content=b"x" * n * 1000))
                ports.add(answers[-1].extensions["network_stream"].get_extra_info("client_addr"))
            head = await client.head("/head")
    assert [answer.json() for answer in answers] == [
        {"method": "POST", "path": f"/{n}", "query": {"a": "b c"}, "length": n * 1000} for n in range(20)
    ]
    assert (head.status_code, head.content) == (200, b"")
    assert len(ports) == 1
    assert proxy.table()[0] == (PASSED, 21, 21)


async def test_requests_that_come_at_once_are_answered_in_their_order(server):
    with fault_proxy(server.url, CALM, 1) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(proxy.url.rpartition(":")[2]))
        writer.write(b"".join(f"GET /{n} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for n in range(5)))
        seen = [await reader.readuntil(b'"length": 0}') for _ in range(5)]
        writer.close()
        await writer.wait_closed()
    assert [f'"/{n}"'.encode() in answer for n, answer in enumerate(seen)] == [True] * 5


async def test_an_answer_keeps_its_status_its_headers_and_its_packing():
    packed = b"\x1f\x8b not really"
    reply = Reply(status=422, body=packed, headers={"Content-Encoding": "gzip", "X-Total": "7", "Keep-Alive": "1"})
    async with serving(lambda request: reply) as server:
        with fault_proxy(server.url, CALM, 1) as proxy:
            async with (
                httpx.AsyncClient(base_url=proxy.url, trust_env=False) as client,
                client.stream("GET", "/") as answer,
            ):
                raw = b"".join([part async for part in answer.aiter_raw()])
    assert (answer.status_code, raw, answer.headers["x-total"]) == (422, packed, "7")
    assert "keep-alive" not in answer.headers


async def test_only_calls_that_match_are_disturbed_and_counted(server):
    def writes(request: Forwarded) -> bool:
        return request.method == "POST"

    with fault_proxy(server.url, only("unavailable"), 1, disturbs=writes) as proxy:
        async with calling(proxy.url) as client:
            await client.call("GET", "/")
            with pytest.raises(TransientError, match="503"):
                await client.call("POST", "/", json={})
    assert (proxy.counts[PASSED], proxy.counts["unavailable"], proxy.disturbed) == (1, 1, 1)


async def test_it_is_switched_off_and_on_while_it_runs_and_goes_on_where_it_was(server):
    plan = FaultPlan(share=0.5, unavailable=0.5)
    expected = [fate_of(plan, 3, number).fault for number in range(1, 41)]
    seen = []
    with fault_proxy(server.url, plan, 3) as proxy:
        async with httpx.AsyncClient(base_url=proxy.url, trust_env=False) as client:
            for number in range(60):
                proxy.on = not 20 <= number < 40
                status = (await client.get("/")).status_code
                seen.append("unavailable" if status == 503 else PASSED)
    assert seen[:20] + seen[40:] == expected
    assert set(seen[20:40]) == {PASSED}


# What is disturbed


@pytest.mark.parametrize("called", [True, False])
@pytest.mark.parametrize("fault", TOLD)
async def test_a_write_is_told_what_is_known_and_the_server_got_it_as_the_count_says(server, fault, called):
    with fault_proxy(server.url, CALM, 1) as proxy:
        async with calling(proxy.url, timeouts=Timeouts(read_ms=300)) as client:
            ordered = proxy.once(fault, called=called)
            with pytest.raises(TransientError) as told:
                await client.call("POST", "/", json={"a": 1})
            assert isinstance(told.value, OutcomeUnknown) is (TOLD[fault] is OutcomeUnknown)
            assert await asyncio.to_thread(ordered.wait, 20)
            assert len(server.requests) == proxy.called[fault]
            assert (await client.call("POST", "/after", json={})).body["path"] == "/after"
    assert (proxy.counts[fault], proxy.counts[PASSED]) == (1, 1)


@pytest.mark.parametrize(
    ("fault", "called"),
    [("reset_before", 0), ("unavailable", 0), ("throttled", 0), ("reset_mid_answer", 1), ("lost_after_commit", 1)],
)
async def test_whether_the_server_gets_the_call_is_what_the_fault_says(server, fault, called):
    with fault_proxy(server.url, only(fault), 1) as proxy:
        async with calling(proxy.url) as client:
            for _ in range(5):
                with pytest.raises(TransientError):
                    await client.call("POST", "/", json={})
    assert len(server.requests) == proxy.called[fault] == 5 * called


@pytest.mark.parametrize("fault", ["garbage", "html", "hang"])
async def test_where_it_is_open_whether_the_server_gets_the_call_both_happen(server, fault):
    with fault_proxy(server.url, only(fault, hang_ms_max=1), 1) as proxy:
        async with calling(proxy.url) as client:
            for _ in range(20):
                with pytest.raises(OutcomeUnknown):
                    await client.call("POST", "/", json={})
    assert 0 < len(server.requests) == proxy.called[fault] < 20


async def test_a_wait_that_is_asked_for_reaches_the_client(server):
    with fault_proxy(server.url, only("throttled_until", retry_after_s=17), 1) as proxy:
        async with calling(proxy.url) as client:
            with pytest.raises(TransientError, match="429") as told:
                await client.call("POST", "/", json={})
    assert told.value.retry_after_ms == 17_000


@pytest.mark.parametrize(
    ("fault", "error"), [("reset_before", httpx.ReadError), ("lost_after_commit", httpx.RemoteProtocolError)]
)
async def test_a_reset_is_a_reset_and_a_lost_answer_a_closed_connection(server, fault, error):
    with fault_proxy(server.url, only(fault), 1) as proxy:
        async with httpx.AsyncClient(base_url=proxy.url, trust_env=False) as client:
            with pytest.raises(error):
                await client.post("/")


async def test_an_answer_is_reset_anywhere_in_its_middle(server):
    received = set()
    with fault_proxy(server.url, only("reset_mid_answer"), 1) as proxy:
        for _ in range(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(proxy.url.rpartition(":")[2]))
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            received.add(await length_until_reset(reader))
            writer.close()
    assert len(received) > 5
    assert min(received) > 0


async def length_until_reset(reader: asyncio.StreamReader) -> int:
    length = 0
    try:
        while part := await reader.read(1):
            length += len(part)
    except ConnectionResetError:
        return length
    raise AssertionError("it was closed, not reset")


async def test_a_slow_answer_arrives(server):
    with fault_proxy(server.url, only("slow", slow_ms_max=20), 1) as proxy:
        async with calling(proxy.url) as client:
            assert (await client.call("POST", "/", json={})).body["path"] == "/"
    assert proxy.counts["slow"] == 1


async def test_a_call_hangs_after_the_server_has_done_its_work_and_ends_with_the_proxy(server):
    with fault_proxy(server.url, CALM, 1) as proxy:
        hangs = proxy.once("hang")
        call = asyncio.create_task(a_write(proxy.url))
        assert await asyncio.to_thread(hangs.wait, 20)
        assert len(server.requests) == 1
        assert not call.done()
    with pytest.raises(OutcomeUnknown):
        await call


async def test_a_late_call_is_carried_out_when_its_client_has_left_and_not_before(server):
    with fault_proxy(server.url, CALM, 1) as proxy:
        late = proxy.once("late", lambda request: request.target == "/late")
        _, impatient = await asyncio.open_connection("127.0.0.1", int(proxy.url.rpartition(":")[2]))
        impatient.write(b"GET /late HTTP/1.1\r\nHost: x\r\n\r\n")
        await a_write(proxy.url)
        assert [request.path for request in server.requests] == ["/"]
        impatient.close()
        await impatient.wait_closed()
        assert await asyncio.to_thread(late.wait, 20)
    assert [request.path for request in server.requests] == ["/", "/late"]


async def a_write(url: str) -> None:
    async with calling(url) as client:
        await client.call("POST", "/", json={})


async def test_a_session_is_ended_behind_a_call_that_has_one_and_the_server_refuses_it():
    ended = []

    def handler(request: Request) -> Reply:
        if request.path == "/logout":
            ended.append(request.headers["authorization"])
        return Reply(status=401 if request.headers.get("authorization") in ended else 200, body={})

    def logout(request: Forwarded) -> Forwarded | None:
        sessions = [header for header in request.headers if header[0] == b"authorization"]
        return Forwarded(method="POST", target="/logout", headers=(*sessions, (b"host", b"x"))) if sessions else None

    async with serving(handler) as server:
        with fault_proxy(server.url, only("expired"), 1, end_session=logout) as proxy:
            async with httpx.AsyncClient(base_url=proxy.url, trust_env=False) as client:
                assert (await client.post("/login")).status_code == 200
                assert (await client.post("/work", headers={"Authorization": "s1"})).status_code == 401
    assert ended == ["s1"]
    assert (proxy.counts["expired"], proxy.called["expired"], proxy.counts[PASSED]) == (1, 1, 1)


async def test_a_server_that_is_down_or_goes_takes_the_connection_with_it_and_is_counted():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with fault_proxy(f"http://127.0.0.1:{unused.getsockname()[1]}", CALM, 1) as proxy:
            async with calling(proxy.url) as client:
                with pytest.raises(OutcomeUnknown):
                    await client.call("POST", "/", json={})
            assert (proxy.counts[SERVER_GONE], proxy.counts[PASSED]) == (1, 0)

    def gone(request: Request) -> Reply:
        raise Hangup

    async with serving(gone) as server:
        with fault_proxy(server.url, CALM, 1) as proxy:
            async with calling(proxy.url) as client:
                with pytest.raises(OutcomeUnknown):
                    await client.call("POST", "/", json={})
            assert proxy.counts[SERVER_GONE] == 1
