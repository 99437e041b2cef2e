"""Time entries when calls go wrong: answers lost, calls that come through late, bad ones among many, sessions gone."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, nullcontext
from decimal import Decimal
from typing import Any

import pytest

from connectors.http.client import Gate, Timeouts
from connectors.http.outcome import LoginFailed
from connectors.http.secrets import Secret
from connectors.tryton import TrytonConfig, TrytonTarget
from connectors.tryton.lookups import Place
from connectors.tryton.markers import TimeMark
from contracts.channels import Receipt, TargetDocument
from pipeline.codes import IT
from pipeline.errors import OutcomeUnknown, PermanentError, TransientError
from tests.conformance.tryton.entries import WORKER, Counting, entry, lines_of, number_in
from tests.conformance.tryton.masters import is_as_sent, project
from tests.erp.calls import Caller
from tests.erp.faults import before_tryton, calls
from tests.faults.exchange import Request
from tests.faults.plan import FaultPlan
from tests.faults.proxy import FaultProxy
from tryton import Tryton

#: Long enough for a log-in on a busy machine, which is the slowest call.
IMPATIENT = Timeouts(read_ms=6_000, total_ms=20_000)
CREATES = calls("timesheet.line.create", "project.work.write")
#: Requests before the one that creates, on each series, where everything else is known.
BEFORE_CREATING = {"8.0": 0, "8.2": 2}

Open = Callable[..., TrytonTarget]


@pytest.fixture
async def open_through(server: Tryton, name: str) -> AsyncIterator[Open]:
    """Opens targets by other ways than straight to the server, and closes them in the end."""
    targets: list[TrytonTarget] = []

    def open_through(gate: Gate = nullcontext, **settings: Any) -> TrytonTarget:
        login = {"database": server.database, "user": server.user, "password": Secret(server.password)}
        config = TrytonConfig(**{"url": server.url, "name": name, "timeouts": IMPATIENT} | login | settings)
        targets.append(TrytonTarget(config, gate))
        return targets[-1]

    yield open_through
    for target in targets:
        await target.close()


@pytest.fixture
def running(server: Tryton) -> Iterator[Tryton]:
    """The server, which runs again whatever the test has done to it."""
    yield server
    if server.runs:
        server.resume()
    else:
        server.start()


@pytest.fixture
def proxy(server: Tryton) -> Iterator[FaultProxy]:
    """A way to the server on which nothing happens that is not ordered."""
    with before_tryton(server, FaultPlan(share=0), 1) as proxy:
        yield proxy


async def warmed(target: TrytonTarget, name: str) -> None:
    """Everything looked up, so that what follows is the writing itself."""
    await target.post(entry("warm", target=name))
    await target.reverse(entry("warm", target=name).reference, "only to warm up")


async def posted_in_the_end(target: TrytonTarget, document: TargetDocument) -> Receipt:
    """As the pipeline goes about it: what may be there is asked for before it is sent again."""
    for _ in range(50):
        try:
            if found := await target.find(document.reference):
                return found.receipt
            return await target.post(document)
        except TransientError:
            continue
    raise AssertionError("not within 50 attempts")


# Answers that never come


async def test_an_entry_whose_answer_was_lost_is_found_and_not_made_again(
    open_through: Open, proxy: FaultProxy, name: str, call: Caller
):
    target, document = open_through(url=proxy.url), entry(target=name)
    lost = proxy.once("lost_after_commit", CREATES)
    with pytest.raises(OutcomeUnknown):
        await target.post(document)
    assert lost.is_set()
    assert is_as_sent(await target.find(document.reference), document)
    await target.post(document)
    assert len(lines_of(call, name)) == 1


async def test_what_nobody_knows_of_a_bulk_nobody_knows_of_its_entries(
    open_through: Open, proxy: FaultProxy, name: str, call: Caller
):
    target = open_through(url=proxy.url, calls_max=1)
    await warmed(target, name)
    proxy.once("lost_after_commit", CREATES)
    documents = [entry(f"TE-{number}", target=name) for number in range(20)]
    outcomes = await asyncio.gather(*map(target.post, documents), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {OutcomeUnknown}
    assert len([await posted_in_the_end(target, document) for document in documents]) == len(lines_of(call, name)) == 20


async def test_a_call_that_comes_through_late_makes_no_second_line(
    open_through: Open, proxy: FaultProxy, name: str, call: Caller
):
    target, other, document = open_through(url=proxy.url), open_through(), entry(target=name)
    late = proxy.once("late", CREATES)
    with pytest.raises(OutcomeUnknown):
        await target.post(document)
    receipt = await posted_in_the_end(other, document)
    assert late.is_set()
    assert (await posted_in_the_end(target, document)).target_id == receipt.target_id
    (line,) = lines_of(call, name)
    assert number_in(receipt.target_id) == line["id"]


async def test_a_call_given_up_and_the_next_one_are_under_way_at_once_and_make_one_line(
    open_through: Open, running: Tryton, name: str, call: Caller
):
    gate, document = Counting(), entry(target=name)
    target, other = open_through(gate), open_through()
    await warmed(target, name)
    await warmed(other, name)
    gate.before(BEFORE_CREATING[running.seed["series"]], running.pause)
    with pytest.raises(OutcomeUnknown):
        await target.post(document)
    # The server has one call in hand already; when it goes on, more have come.
    more = [asyncio.create_task(posted_in_the_end(one, document)) for one in (target, other)]
    asyncio.get_running_loop().call_soon(running.resume)
    receipts = await asyncio.gather(*more)
    (line,) = lines_of(call, name)
    assert {number_in(receipt.target_id) for receipt in receipts} == {line["id"]}


async def test_what_waits_behind_a_call_that_hangs_is_known_not_to_have_been_sent(
    open_through: Open, running: Tryton, name: str, call: Caller
):
    target = open_through(bulk_max=1, timeouts=Timeouts(read_ms=6_000, total_ms=6_000))
    first, second = entry("TE-1", target=name), entry("TE-2", target=name)
    await warmed(target, name)
    running.pause()
    hanging, waiting = await asyncio.gather(target.post(first), target.post(second), return_exceptions=True)
    running.resume()
    assert isinstance(hanging, OutcomeUnknown)
    assert isinstance(waiting, TransientError)
    assert not isinstance(waiting, OutcomeUnknown)
    assert "not sent" in str(waiting)
    for document in (first, second):
        await posted_in_the_end(target, document)
    assert len(lines_of(call, name)) == 2


async def test_a_look_up_does_not_wait_for_a_call_that_creates(open_through: Open, name: str):
    keeps, kept, go = False, asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def gate() -> AsyncIterator[None]:
        if keeps and not kept.is_set():
            kept.set()
            await go.wait()
        yield

    target, document = open_through(gate), entry("TE-1", target=name)
    await warmed(target, name)
    await target.post(document)
    keeps = True
    creating = asyncio.create_task(target.post(entry("TE-2", target=name)))
    await kept.wait()
    assert is_as_sent(await target.find(document.reference), document)
    assert not creating.done()
    go.set()
    await creating


async def test_nothing_is_sent_of_a_bulk_that_is_given_up_while_it_waits_for_its_turn(
    open_through: Open, running: Tryton, name: str, call: Caller
):
    gate, called = Counting(), asyncio.Event()
    target = open_through(gate)
    await warmed(target, name)
    old, correction = entry("TE-1", target=name), entry("TE-1", revision=2, target=name, replaces=1)
    before = gate.requests
    await target.post(old)
    asked = gate.requests
    running.pause()
    gate.before(0, called.set)
    first = asyncio.create_task(target.time_entries.post_bulk([entry("TE-2", target=name)]))
    second = asyncio.create_task(target.time_entries.post_bulk([entry("TE-3", target=name), correction]))
    await called.wait()
    second.cancel()
    running.resume()
    await first
    with pytest.raises(asyncio.CancelledError):
        await second
    assert gate.requests - asked == asked - before, "as many as for one bulk"
    assert is_as_sent(await target.find(old.reference), old)
    assert len(lines_of(call, name)) == 2


async def test_what_was_under_way_when_the_server_died_is_posted_once(
    open_through: Open, running: Tryton, name: str, call: Caller
):
    gate = Counting()
    target = open_through(gate, bulk_max=20, calls_max=1)
    await warmed(target, name)
    documents = [entry(f"TE-{number}", target=name) for number in range(60)]
    gate.before(BEFORE_CREATING[running.seed["series"]] + 2, running.kill)
    outcomes = await asyncio.gather(*map(target.post, documents), return_exceptions=True)
    assert {isinstance(outcome, TransientError | Receipt) for outcome in outcomes} == {True}
    assert any(isinstance(outcome, TransientError) for outcome in outcomes)
    running.start()
    receipts = [await posted_in_the_end(target, document) for document in documents]
    assert len({receipt.target_id for receipt in receipts}) == len(lines_of(call, name)) == 60


async def test_two_processes_over_a_bad_road_make_each_entry_once(
    open_through: Open, server: Tryton, name: str, call: Caller
):
    documents = [entry(f"TE-{number}", target=name, project=str(number % 3 + 1)) for number in range(60)]
    plan = FaultPlan(share=0.3, lost_after_commit=0.1, late=0.05, throttled_until=0, hang=0, slow=0)
    with before_tryton(server, plan, 1) as proxy:
        targets = [open_through(url=proxy.url, bulk_max=10), open_through(url=proxy.url, bulk_max=10)]
        posts = [posted_in_the_end(target, document) for document in documents for target in targets]
        receipts = await asyncio.gather(*posts)
        assert proxy.disturbed > 0
    assert len({receipt.target_id for receipt in receipts}) == len(lines_of(call, name)) == 60


# Somebody else at the same line

#: Requests before the one that writes or deletes a line, on each series, where everything else is known.
BEFORE_WRITING = {"8.0": 1, "8.2": 2}


@pytest.mark.parametrize("taken_back", [False, True])
async def test_what_somebody_else_has_written_between_our_look_and_our_call_stands(
    open_through: Open, server: Tryton, name: str, call: Caller, taken_back: bool
):
    gate, old, newer = Counting(), entry(target=name), entry(target=name, revision=3, replaces=1)
    target = open_through(gate)
    await warmed(target, name)
    line = number_in((await target.post(old)).target_id)
    description = TimeMark(
        reference=newer.reference, amount=newer.amount, hours=Decimal("7.5"), worker=WORKER
    ).described("")
    written = {"description": description}
    gate.before(BEFORE_WRITING[server.seed["series"]], lambda: call("timesheet.line.write", [line], written))
    correction = entry(target=name, revision=2, replaces=1)
    late = target.reverse(old.reference, "too late") if taken_back else target.post(correction)
    with pytest.raises(PermanentError if taken_back else TransientError):
        await late
    assert is_as_sent(await target.find(newer.reference), newer)


# Bad ones among many


async def test_one_bad_entry_among_many_costs_calls_by_the_logarithm(open_through: Open, server: Tryton, name: str):
    gate = Counting()
    target = open_through(gate, timeouts=Timeouts())
    await warmed(target, name)
    documents = [entry(f"TE-{number}", target=name) for number in range(200)]
    documents[77] = entry("TE-77", target=name, worker="HR-0005")  # who has left
    before = gate.requests
    outcomes = await asyncio.gather(*map(target.post, documents), return_exceptions=True)
    refused = outcomes.pop(77)
    assert isinstance(refused, PermanentError)
    assert [outcome for outcome in outcomes if isinstance(outcome, BaseException)] == []
    # Once for all, and once more for the bad one.
    requests_each, looked_up = 1 if server.seed["series"] == "8.0" else 4, 2 + 3
    assert gate.requests - before <= looked_up + requests_each * (1 + 2 * math.ceil(math.log2(200)))


# Who we are


async def test_a_session_that_has_ended_is_opened_once_more(
    open_through: Open, proxy: FaultProxy, name: str, call: Caller
):
    target, document = open_through(url=proxy.url), entry(target=name)
    await warmed(target, name)
    ended = proxy.once("expired", CREATES)
    await target.post(document)
    assert ended.is_set()
    assert len(lines_of(call, name)) == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"password": Secret("wrong one")}, "401"),
        ({"user": "nobody else"}, "401"),
        ({"database": "another"}, "404"),
    ],
)
async def test_whoever_is_not_let_in_is_told_and_no_document_is_to_blame(
    open_through: Open, name: str, settings: dict[str, Any], said: str
):
    target = open_through(timeouts=Timeouts(), **settings)
    with pytest.raises(LoginFailed, match=said) as failed:
        await target.post(entry(target=name))
    assert "wrong one" not in str(failed.value)


async def test_a_user_without_rights_is_for_it(open_through: Open, server: Tryton, name: str):
    gate = Counting()
    target = open_through(gate, user="nobody", password=Secret(server.seed["users"]["nobody"]))
    documents = [entry(f"TE-{number}", target=name) for number in range(20)]
    outcomes = await asyncio.gather(*map(target.post, documents), return_exceptions=True)
    assert {(type(outcome).__name__, getattr(outcome, "owner", None)) for outcome in outcomes} == {
        ("TargetRefused", IT)
    }
    # On 8.0 it is a rule that refuses, which might let others of the bulk pass.
    each = 2 if server.seed["series"].startswith("8.0") else 0
    assert gate.requests < 20 + each * len(documents)


async def test_a_company_is_chosen_by_name(open_through: Open, name: str):
    ours = open_through(company="Nimbus Consulting")
    await ours.post(entry(target=name))
    with pytest.raises(PermanentError, match="0 companies named 'Cumulus'") as refused:
        await open_through(company="Cumulus").post(entry(target=name))
    assert refused.value.owner == IT


# What Tryton says differently meanwhile


async def test_a_work_that_was_opened_for_time_meanwhile_is_booked_on(open_through: Open, name: str, call: Caller):
    target = open_through()
    number = number_in((await target.post(project(f"P-{name}", target=name))).target_id)
    call("project.work.write", [number], {"timesheet_available": False})
    document = entry(target=name, project=f"P-{name}")
    with pytest.raises(PermanentError, match="Available on timesheets"):
        await target.post(document)
    call("project.work.write", [number], {"timesheet_available": True})
    await target.post(document)
    assert is_as_sent(await target.find(document.reference), document)


async def test_a_work_that_was_made_anew_meanwhile_is_looked_up_once_more(open_through: Open, name: str, call: Caller):
    target, first = open_through(), project(f"P-{name}", target=name)
    number = number_in((await target.post(first)).target_id)
    await target.lookups.works.of([Place(f"P-{name}")])
    call("project.work.delete", call("project.work.search", [["parent", "child_of", [number]]], 0, None, None))
    await open_through().post(first)
    document = entry(target=name, project=f"P-{name}")
    await target.post(document)
    assert is_as_sent(await target.find(document.reference), document)


# Where keys can be set, nothing is read after writing.
@pytest.mark.parametrize("server", ["newer_erp"], indirect=True)
async def test_a_look_that_fails_after_lines_were_written_leaves_their_outcome_open(
    server: Tryton, open_through: Open, proxy: FaultProxy, name: str, call: Caller
):
    target, document, made = open_through(url=proxy.url), entry(target=name), []

    def after_creating(request: Request) -> bool:
        made.extend([request] if CREATES(request) else [])
        return bool(made) and calls("timesheet.line.search_read")(request)

    await warmed(target, name)
    made.clear()
    for _ in range(50):
        proxy.once("unavailable", after_creating)
    with pytest.raises(OutcomeUnknown, match="written in part"):
        await target.post(document)
    assert is_as_sent(await open_through().find(document.reference), document)
