"""Reconcile: what the target holds is what was sent, in every field and in money."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from actors.reconcile import reconcile
from contracts.channels import Posted, Receipt, Reconciled
from contracts.money import Money
from pipeline.errors import PermanentError, TransientError
from pipeline.outcome import Superseded
from tests.unit.actors.builders import NOW, MemoryTarget, a_context, a_target_document, eur

REFERENCE = a_target_document().reference


async def posted(target: MemoryTarget, body: Any = None) -> Posted:
    document = a_target_document()
    if body is not None:
        document = a_target_document(body=msgspec.Raw(msgspec.json.encode(body)))
    return Posted(document=document, receipt=await target.post(document))


async def read_back(sent: Any, held: Any) -> Reconciled:
    """Reconcile a document whose body was sent one way and is held another."""
    target = MemoryTarget()
    record = await posted(target, sent)
    target.held[REFERENCE] = replace(target.held[REFERENCE], fields=held)
    return await reconcile(record, a_context(targets={"memory": target}))


async def drift(sent: Any, held: Any) -> str:
    with pytest.raises(PermanentError) as caught:
        await read_back(sent, held)
    assert caught.value.code.name == "DRIFT"
    assert caught.value.owner == "finance"
    return str(caught.value)


async def test_an_equal_document_is_reconciled():
    target = MemoryTarget()
    record = await posted(target)
    result = await reconcile(record, a_context(targets={"memory": target}))
    assert result == Reconciled(target="memory", target_id="JE-1", amount=eur("100.00"))


@pytest.mark.parametrize(
    ("sent", "held"),
    [
        ("100.00", Decimal("100")),
        ("100.00", 100.0),
        (7, "7.0"),
        ("2026-03-04", date(2026, 3, 4)),
        ("2026-03-04T10:00:00Z", datetime(2026, 3, 4, 10, tzinfo=UTC)),
        ("2026-03-04T10:00:00Z", "2026-03-04T11:00:00+01:00"),
        (None, ""),
        ("", None),
        ([], None),
        (True, True),
        (["a", {"b": "1.0"}], ("a", {"b": Decimal(1), "added": "by the target"})),
    ],
)
async def test_what_means_the_same_is_no_difference(sent, held):
    assert await read_back({"field": sent}, {"field": held, "own": "field of the target"})


@pytest.mark.parametrize(
    ("sent", "held"),
    [
        ("100.00", "100.01"),
        ("0400", "400"),
        ("a", "A"),
        ("a", None),
        (None, "a"),
        (0, None),
        (True, 1),
        ("2026-03-04", date(2026, 3, 5)),
        ("2026-03-04T10:00:00Z", "2026-03-04T10:00:01Z"),
        ([1, 2], [2, 1]),
        ([1], [1, 2]),
        ({"b": 1}, "b"),
    ],
)
async def test_what_means_something_else_is_a_drift_that_names_the_field(sent, held):
    assert "field" in await drift({"field": sent}, {"field": held})


async def test_a_field_that_was_sent_and_is_gone_is_a_drift():
    assert "memo: sent '8 hours', holds nothing" in await drift({"memo": "8 hours"}, {})


async def test_every_difference_is_named_with_both_values():
    sent = {"memo": "a", "lines": [{"account": "1"}, {"account": "2", "debit": "5.00"}]}
    held = {"memo": "b", "lines": [{"account": "1"}, {"account": "3", "debit": "6.00"}]}
    text = await drift(sent, held)
    assert "memo: sent 'a', holds 'b'" in text
    assert "lines[2].account: sent '2', holds '3'" in text
    assert "lines[2].debit: sent '5.00', holds '6.00'" in text


async def test_a_long_list_of_differences_is_cut_and_counted():
    text = await drift({f"f{n}": 1 for n in range(25)}, {})
    assert text.count("sent") == 10
    assert text.endswith("and 15 more")


@pytest.mark.parametrize("held", [eur("99.99"), Money(amount=Decimal(100), currency="CHF")])
async def test_the_money_must_be_equal_whatever_the_fields_say(held):
    target = MemoryTarget()
    record = await posted(target)
    target.held[REFERENCE] = replace(target.held[REFERENCE], amount=held)
    with pytest.raises(PermanentError, match=f"amount: sent 100.00 EUR, holds {held}"):
        await reconcile(record, a_context(targets={"memory": target}))


async def test_a_document_that_is_gone_is_for_finance():
    target = MemoryTarget()
    record = await posted(target)
    target.held.clear()
    with pytest.raises(PermanentError) as caught:
        await reconcile(record, a_context(targets={"memory": target}))
    assert (caught.value.code.name, caught.value.owner) == ("NOT_IN_TARGET", "finance")


async def test_a_document_that_was_reversed_is_superseded():
    target = MemoryTarget()
    record = await posted(target)
    await target.post(a_target_document("memory/newer", replaces=REFERENCE))
    end = await reconcile(record, a_context(targets={"memory": target}))
    assert end == Superseded(by="a reversal of JE-1 in memory")


async def test_a_draft_is_looked_at_again_later_without_burning_an_attempt():
    target = MemoryTarget()
    record = await posted(target)
    draft = Receipt(target_id="D-1", state="submitted", at=NOW)
    target.held[REFERENCE] = replace(target.held[REFERENCE], receipt=draft)
    with pytest.raises(TransientError) as caught:
        await reconcile(record, a_context(targets={"memory": target}))
    assert (caught.value.burns_attempt, caught.value.retry_after_ms) == (False, 60_000)


async def test_a_target_that_can_not_be_opened_any_more_is_waited_for():
    record = await posted(MemoryTarget())
    with pytest.raises(TransientError) as caught:
        await reconcile(record, a_context(targets={}, unopened={"memory": "MEMORY_KEY is not set"}))
    assert not caught.value.burns_attempt


async def test_a_target_that_is_not_connected_is_named():
    record = await posted(MemoryTarget())
    with pytest.raises(PermanentError) as caught:
        await reconcile(record, a_context(targets={}))
    assert caught.value.code.name == "NO_ROUTE"
