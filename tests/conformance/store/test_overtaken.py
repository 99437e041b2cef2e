"""A record that was routed, lost its message and is driven again from its first stage may turn out to be overtaken."""

import pytest

from pipeline.states import DUPLICATE, IN_FLIGHT, SUPERSEDED
from store.balance import balance
from tests.conformance.store.given import Given, a_record


async def states_of(given: Given) -> dict[str, int]:
    (sheet,) = await balance(given.db, {})
    assert sheet.balanced
    return {state: count for state, count in sheet.counts.items() if count and state not in ("read", "accepted")}


@pytest.mark.parametrize("outcome", [SUPERSEDED, DUPLICATE])
async def test_a_routed_record_that_was_never_sent_ends_with_what_its_first_stage_decides(
    given: Given, outcome: str
) -> None:
    record = a_record("E-1")
    await given.accepted(record)
    await given.routed(record, "ledger", "payroll")
    await given.state(outcome, record)
    assert await states_of(given) == {outcome: 1}


async def test_what_a_target_was_called_for_is_not_ended_by_a_late_copy_at_the_first_stage(given: Given) -> None:
    record = a_record("E-1")
    await given.accepted(record)
    await given.posted(record, "ledger")
    await given.routed(record, "payroll")
    await given.state(SUPERSEDED, record)
    assert await states_of(given) == {"posted": 1}


async def test_a_record_on_its_way_is_not_ended_by_anything_else_said_of_it_as_a_whole(given: Given) -> None:
    record = a_record("E-1")
    await given.accepted(record)
    await given.routed(record, "ledger")
    await given.state("reconciled", record)
    assert await states_of(given) == {IN_FLIGHT: 1}
