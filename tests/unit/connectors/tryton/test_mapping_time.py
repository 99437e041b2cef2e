"""Time entries as Tryton takes them: under our own keys, worth what they were attributed."""

from datetime import date
from decimal import Decimal

import msgspec
import pytest

from connectors.tryton import TrytonTranslator
from contracts.base import Contract
from contracts.channels import Attribution, Enriched, TargetDocument
from contracts.money import Money
from contracts.rate_card import RateCard
from contracts.time_entry import TimeEntry
from pipeline.codes import MISSING_ATTRIBUTE, TARGET_REFUSED
from pipeline.errors import PermanentError
from tests.unit.actors.builders import a_context

REFERENCE = "erp/time_entry.v1/psa/TE-1/1"
ENTRY = TimeEntry(id="TE-1", worker="psa-7", date=date(2026, 3, 5), hours=Decimal("7.50"), project="psa-P", task="T-1")


def translated(document: Contract, **attribution: str) -> TargetDocument:
    worth = Money(amount=Decimal("1125.004"), currency="EUR")
    found = Attribution(legal_entity="DE", amount=worth, entity_amount=worth, **attribution)
    enriched = Enriched(document=document, attribution=found)  # type: ignore[arg-type]
    return TrytonTranslator("erp").translate(enriched, REFERENCE, a_context())


def test_a_time_entry_becomes_a_timesheet_line_under_canonical_ids():
    document = translated(ENTRY, worker="W-7", project="P-100")
    assert (document.target, document.kind, document.reference) == ("erp", "timesheet_line", REFERENCE)
    assert (document.date, document.legal_entity) == (date(2026, 3, 5), "DE")
    assert document.amount == Money(amount=Decimal("1125.00"), currency="EUR")
    assert msgspec.json.decode(document.body) == {
        "worker": "W-7",
        "project": "P-100",
        "task": "T-1",
        "date": "2026-03-05",
        "hours": "7.50",
    }


def test_what_the_attribution_does_not_say_is_the_entry_s_own():
    body = msgspec.json.decode(translated(ENTRY).body)
    assert (body["worker"], body["project"]) == ("psa-7", "psa-P")


def test_a_note_is_one_line_that_can_be_stored():
    entry = msgspec.structs.replace(ENTRY, note=" Design\treview\x00\n" + "x" * 500)
    note = msgspec.json.decode(translated(entry).body)["note"]
    assert note.startswith("Design review xxx")
    assert len(note) == 200


def test_time_without_a_project_has_no_place():
    with pytest.raises(PermanentError) as refused:
        translated(msgspec.structs.replace(ENTRY, project=None))
    assert refused.value.code == MISSING_ATTRIBUTE


def test_what_tryton_has_no_place_for_is_refused_with_the_rule_to_correct():
    card = RateCard(id="R-1", rate=Decimal(1), currency="EUR", valid_from=date(2026, 1, 1))
    with pytest.raises(PermanentError, match="correct \\[\\[routing\\]\\]") as refused:
        translated(card)
    assert refused.value.code == TARGET_REFUSED
