"""What the ledger refuses by looking at the document alone."""

from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from connectors.ledger.journal import drafted
from contracts.channels import TargetDocument
from contracts.money import Money
from pipeline.codes import TARGET_REFUSED
from pipeline.errors import PermanentError


def document(lines: list[dict[str, Any]] | None = None, **changes: Any) -> TargetDocument:
    """An entry over 100 EUR in two lines; `changes` go to the body where it has the field, else to the document."""
    body: dict[str, Any] = {
        "document_type": "expense.v1",
        "date": "2026-03-05",
        "legal_entity": "DE",
        "entity_currency": "EUR",
        "entity_amount": "100.00",
        "lines": [{"account": "6200", "debit": "100.00"}, {"account": "2100", "credit": "100.00"}],
    }
    if lines is not None:
        body["lines"] = lines
    body |= {name: changes.pop(name) for name in list(changes) if name in body or name == "surprise"}
    plain = TargetDocument(
        target="ledger",
        kind="journal_entry",
        reference="ledger/expense.v1/src/1/1",
        date=date(2026, 3, 5),
        legal_entity="DE",
        amount=Money(amount=Decimal("100.00"), currency="EUR"),
        body=msgspec.Raw(msgspec.json.encode(body)),
    )
    return msgspec.structs.replace(plain, **changes)


def test_a_balanced_entry_is_taken() -> None:
    draft = drafted(document())
    assert (draft.period, draft.accounts) == ("2026-03", {"6200", "2100"})


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (document([{"account": "6200", "debit": "100"}, {"account": "2100", "credit": "99.99"}]), "not equal"),
        (document([{"account": "6200", "debit": "100"}]), "not equal"),
        (document([{"account": "6200", "debit": "100", "credit": "100"}]), "exactly one of debit and credit"),
        (document([{"account": "6200"}]), "exactly one of debit and credit"),
        (document([{"account": "6200", "debit": "-1"}, {"account": "2100", "credit": "-1"}]), "above zero"),
        (document([{"account": "6200", "debit": "0"}, {"account": "2100", "credit": "0"}]), "above zero"),
        (document([{"account": "6", "debit": "0.001"}, {"account": "2", "credit": "0.001"}]), "minor unit"),
        (document([]), "on none of the lines"),
        (document(entity_amount="50.00"), "on none of the lines"),
        (document(entity_amount="NaN"), "out of bounds"),
        (document(entity_amount="1e30"), "out of bounds"),
        (document(entity_currency="EUX"), "EUX"),
        (document(surprise="field"), "surprise"),
        (document(date="2026-03-06"), "2026-03-06"),
        (document(legal_entity="FR"), "legal_entity is DE"),
        (document(kind="invoice"), "invoice"),
        (document(body=msgspec.Raw(b"{")), "truncated"),
        (document(reference="r" * 601), "600"),
        (document(reference="a#reversal"), "#reversal"),
        (document(replaces="ledger/expense.v1/src/1/1"), "itself"),
        (document(document_type="t" * 61), "document_type"),
        (document([{"account": "6200", "debit": "100", "worker": "W" * 201}]), "line 1 worker"),
        (document(amount=Money(amount=Decimal("1e20"), currency="EUR")), "out of bounds"),
    ],
)
def test_an_entry_that_breaks_a_rule_is_refused_with_the_rule(bad: TargetDocument, words: str) -> None:
    with pytest.raises(PermanentError, match=words) as refusal:
        drafted(bad)
    assert refusal.value.code == TARGET_REFUSED
