"""The ledger's translator: which accounts a time entry and an expense move, and by how much."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from connectors.ledger import LedgerConfig, LedgerTranslator
from connectors.ledger.config import PostingAccounts
from connectors.ledger.journal import drafted
from contracts.channels import Attribution, Enriched, TargetDocument
from contracts.envelope import Envelope, Item
from contracts.expense import Expense
from contracts.money import Money
from contracts.project import Project
from contracts.time_entry import TimeEntry
from pipeline.codes import EXCHANGE_RATE_MISSING, TARGET_REFUSED
from pipeline.errors import MappingMissing, PermanentError
from pipeline.reference import Mapping, Reference
from pipeline.rules import Rules
from pipeline.stage import Context

DAY = date(2026, 3, 5)
Sides = list[tuple[str, str | None, str | None]]


def context(*mappings: Mapping, rules: Rules | None = None) -> Context:
    reference = Reference()
    for mapping in mappings:
        reference.put_mappings(mapping.kind, mapping.key, [mapping])
    return Context(
        envelope=Envelope(id="m", source="openair", type="time_entry.v1", time=datetime.now(UTC), lane="live"),
        item=Item(id="r", subject="1", revision="1", correlationid="c", body=msgspec.Raw(b"{}")),
        reference=reference,
        rules=rules or Rules(),
    )


def money(amount: str, currency: str = "EUR") -> Money:
    return Money(amount=Decimal(amount), currency=currency)


def attribution(amount: str = "1000.00", currency: str = "EUR", rate: str = "1", **changes: Any) -> Attribution:
    return Attribution(
        legal_entity="DE",
        amount=money(amount, currency),
        entity_amount=Money(amount=Decimal(amount) * Decimal(rate), currency="EUR").rounded(),
        exchange_rate=Decimal(rate),
        worker="W-7",
        project="P-100",
        customer="C-3",
        cost_center="CC-1",
        **changes,
    )


def time_entry(**changes: Any) -> TimeEntry:
    return TimeEntry(id="1", worker="W-7", date=DAY, hours=Decimal(8), project="P-100", **changes)


def expense(amount: str = "119.00", **changes: Any) -> Expense:
    return Expense(id="1", date=DAY, amount=Decimal(amount), currency=changes.pop("currency", "EUR"), **changes)


def translated(document: Any, about: Attribution, where: Context | None = None) -> TargetDocument:
    enriched = Enriched(document=document, attribution=about)
    return LedgerTranslator().translate(enriched, "ledger/x/openair/1/1", where or context())


def sides(document: TargetDocument) -> Sides:
    drafted(document)  # the ledger itself would take it
    lines = msgspec.json.decode(document.body).get("lines", [])
    return [(line["account"], line.get("debit"), line.get("credit")) for line in lines]


def test_billable_time_is_unbilled_revenue_at_what_it_is_billed_at() -> None:
    document = translated(time_entry(), attribution())
    assert sides(document) == [("1300", "1000.00", None), ("4000", None, "1000.00")]
    assert (document.amount, document.kind, document.date) == (money("1000.00"), "journal_entry", DAY)


def test_known_cost_is_booked_as_project_labour_in_addition() -> None:
    document = translated(time_entry(), attribution(cost=money("600.00")))
    assert sides(document)[2:] == [("5000", "600.00", None), ("5900", None, "600.00")]
    assert document.amount == money("1000.00")


def test_time_that_is_not_billed_is_its_cost_alone() -> None:
    about = attribution("600.00", cost=money("600.00"))
    assert sides(translated(time_entry(billable=False), about)) == [("5000", "600.00", None), ("5900", None, "600.00")]


def test_time_that_is_worth_nothing_moves_no_account_and_keeps_its_hours() -> None:
    document = translated(time_entry(billable=False), attribution("0"))
    assert sides(document) == []
    assert msgspec.json.decode(document.body)["details"]["hours"] == "8"


def test_time_billed_at_nothing_still_books_its_cost() -> None:
    about = attribution("0.00", cost=money("600.00"))
    assert sides(translated(time_entry(), about)) == [("5000", "600.00", None), ("5900", None, "600.00")]


def test_every_line_carries_the_dimensions() -> None:
    for line in msgspec.json.decode(translated(time_entry(), attribution(cost=money("1"))).body)["lines"]:
        dimensions = (line["worker"], line["project"], line["customer"], line["cost_center"])
        assert dimensions == ("W-7", "P-100", "C-3", "CC-1")


def test_foreign_currency_is_booked_in_the_entitys_own_and_ties_out_in_the_documents() -> None:
    document = translated(time_entry(), attribution("1000.00", "USD", "0.92", cost=money("600.00", "USD")))
    assert document.amount == money("1000.00", "USD")
    assert [debit or credit for _, debit, credit in sides(document)] == ["920.00", "920.00", "552.00", "552.00"]
    assert msgspec.json.decode(document.body)["details"]["exchange_rate"] == "0.92"


@pytest.mark.parametrize(("pair", "rate"), [("CHF/EUR", "1.05"), ("EUR/CHF", "0.9523809523809523809523809524")])
def test_cost_in_a_third_currency_is_converted_by_the_cross_reference(pair: str, rate: str) -> None:
    about = attribution("1000.00", "USD", "0.92", cost=money("600.00", "CHF"))
    where = context(Mapping(kind="exchange_rate", key=pair, value=rate))
    assert sides(translated(time_entry(), about, where))[2] == ("5000", "630.00", None)


@pytest.mark.parametrize("mappings", [(), (Mapping(kind="exchange_rate", key="CHF/EUR", value="free"),)])
def test_cost_in_a_third_currency_without_a_rate_is_for_finance(mappings: tuple[Mapping, ...]) -> None:
    with pytest.raises(PermanentError) as refusal:
        translated(time_entry(), attribution(cost=money("600.00", "CHF")), context(*mappings))
    assert refusal.value.code == EXCHANGE_RATE_MISSING


def test_an_expense_is_owed_to_the_employee() -> None:
    assert sides(translated(expense(), attribution("119.00"))) == [("6200", "119.00", None), ("2100", None, "119.00")]


def test_an_expense_the_firm_paid_itself_is_owed_to_the_supplier() -> None:
    assert sides(translated(expense(reimbursable=False), attribution("119.00")))[1] == ("2000", None, "119.00")


def test_input_tax_stands_on_an_account_of_its_own() -> None:
    assert sides(translated(expense(tax=Decimal("19.00")), attribution("119.00"))) == [
        ("6200", "100.00", None),
        ("1400", "19.00", None),
        ("2100", None, "119.00"),
    ]


def test_what_rounding_leaves_over_goes_to_the_rounding_account() -> None:
    # At 0.91 the gross is 9.10, the net 8.50 becomes 7.735 and the tax 1.50 becomes 1.365: both are rounded up.
    document = translated(expense("10.00", currency="USD", tax=Decimal("1.50")), attribution("10.00", "USD", "0.91"))
    assert sides(document) == [
        ("6200", "7.74", None),
        ("1400", "1.37", None),
        ("7999", None, "0.01"),
        ("2100", None, "9.10"),
    ]


def test_the_category_finds_its_account_on_the_day_of_the_expense() -> None:
    where = context(Mapping(kind="expense_account", key="Hotel", value="6220", valid_to=DAY))
    assert sides(translated(expense(category="Hotel"), attribution("119.00"), where))[0][0] == "6220"
    later = replace(expense(category="Hotel"), date=date(2026, 3, 6))
    assert sides(translated(later, attribution("119.00"), where))[0][0] == "6200"


def test_a_category_nobody_has_mapped_is_for_its_owner() -> None:
    nothing = Rules(mappings={}, mapping_owners={"expense_account": "pmo"})
    with pytest.raises(MappingMissing) as missing:
        translated(expense(category="Hotel"), attribution("119.00"), context(rules=nothing))
    assert (missing.value.kind, missing.value.key, missing.value.owner) == ("expense_account", "Hotel", "pmo")
    with pytest.raises(MappingMissing) as missing:
        translated(expense(), attribution("119.00"), context(rules=nothing))
    assert missing.value.key == "uncategorised"


def test_a_refund_exchanges_the_sides() -> None:
    assert sides(translated(expense("-20.00"), attribution("-20.00"))) == [
        ("6200", None, "20.00"),
        ("2100", "20.00", None),
    ]


def test_the_accounts_are_a_matter_of_configuration() -> None:
    config = LedgerConfig(name="books", accounts=PostingAccounts(revenue="8400"))
    enriched = Enriched(document=time_entry(), attribution=attribution())
    document = LedgerTranslator(config).translate(enriched, "books/x", context())
    assert (document.target, sides(document)[1][0]) == ("books", "8400")


def test_a_note_becomes_a_memo_of_one_printable_line() -> None:
    document = translated(time_entry(note="Workshop\n\x00with  the\tboard " + "x" * 300), attribution())
    memo = msgspec.json.decode(document.body)["memo"]
    assert memo.startswith("Workshop with the board x")
    assert len(memo) == 200


def test_master_data_is_no_accounting_document() -> None:
    with pytest.raises(PermanentError) as refusal:
        translated(Project(id="P", name="P"), attribution())
    assert refusal.value.code == TARGET_REFUSED


amounts = st.decimals("0.01", "99999.99", places=2)
rates = st.decimals("0.0001", "9999", places=4)


@given(amount=amounts, rate=rates, cost=amounts, billable=st.booleans())
def test_any_time_entry_makes_an_entry_that_the_ledger_takes(
    amount: Decimal, rate: Decimal, cost: Decimal, billable: bool
) -> None:
    about = attribution(str(amount), "USD", str(rate), cost=money(str(cost)))
    drafted(translated(time_entry(billable=billable), about))


@given(gross=amounts, share=st.decimals("0", "1", places=3), rate=rates)
def test_any_expense_makes_an_entry_that_the_ledger_takes(gross: Decimal, share: Decimal, rate: Decimal) -> None:
    tax = (gross * share).quantize(Decimal("0.01"))
    drafted(translated(expense(str(gross), currency="USD", tax=tax), attribution(str(gross), "USD", str(rate))))
