"""Validate: what may be said, by whom, and what can be true."""

from datetime import date, timedelta
from decimal import Decimal

import msgspec
import pytest
from msgspec.structs import replace

from actors.validate import validate
from contracts.channels import Validated
from contracts.money import NOTHING
from pipeline.judgement import Failed, judge
from pipeline.outcome import Duplicate, Superseded
from pipeline.rules import Ownership, Rules
from tests.unit.actors.builders import (
    DAY,
    MINE,
    NOW,
    a_card,
    a_context,
    a_customer,
    a_project,
    a_reference,
    a_worker,
    an_entry,
    an_expense,
    revisions,
    validating_refused,
)


@pytest.mark.parametrize("document", [an_entry(), an_expense(), a_worker(), a_project(), a_customer(), a_card()])
def test_a_sound_document_passes_as_it_is(document):
    assert validate(document, a_context(document)) == Validated(document=document)


# Ownership


def test_a_source_that_is_not_the_system_of_record_is_refused_and_told_who_is():
    rules = Rules(ownership=(Ownership(document_type="worker", sources=("hr",)),))
    error = validating_refused(a_worker(), rules=rules, source="psa")
    assert (error.code.name, error.owner) == ("NOT_OWNER", "it")
    assert "'psa'" in str(error)
    assert "hr" in str(error)
    assert validate(a_worker(), a_context(a_worker(), rules=rules, source="hr"))


def test_at_a_cut_over_the_documents_own_date_decides_who_may_publish_it():
    cut_over = date(2026, 3, 1)
    rules = Rules(
        ownership=(
            Ownership(document_type="time_entry", sources=("old",), valid_to=cut_over - timedelta(days=1)),
            Ownership(document_type="time_entry", sources=("new",), valid_from=cut_over),
        )
    )
    february, march = an_entry(date=date(2026, 2, 27)), an_entry(date=cut_over)
    assert validate(february, a_context(february, rules=rules, source="old"))
    assert validate(march, a_context(march, rules=rules, source="new"))
    assert validating_refused(march, rules=rules, source="old").code.name == "NOT_OWNER"
    assert validating_refused(february, rules=rules, source="new").code.name == "NOT_OWNER"


def test_master_data_has_no_date_of_its_own_so_that_today_decides():
    rules = Rules(ownership=(Ownership(document_type="worker", sources=("old",), valid_to=NOW.date()),))
    assert validate(a_worker(), a_context(a_worker(), rules=rules, source="old"))
    tomorrow = NOW + timedelta(days=1)
    assert "nobody" in str(validating_refused(a_worker(), rules=rules, source="old", now=tomorrow))


def test_a_record_of_another_type_than_its_envelope_says_is_refused():
    error = validating_refused(an_entry(), document_type="customer.v1")
    assert error.code.name == "INVALID_DOCUMENT"
    assert "customer.v1" in str(error)
    assert "time_entry.v1" in str(error)


# Other revisions


def test_a_newer_revision_with_equal_content_is_a_duplicate_of_the_older_one():
    history = revisions("posted", "in_flight", mine=2, contents="aa")
    end = validate(an_entry(), a_context(an_entry(), history=history))
    assert end == Duplicate(of="r-1", reason="revision 1 has the same content")


def test_content_that_was_changed_and_changed_back_is_no_duplicate():
    history = revisions("posted", "posted", "in_flight", mine=3, contents="aba")
    assert isinstance(validate(an_entry(), a_context(an_entry(), history=history)), Validated)


def test_a_dead_revision_stands_for_a_newer_one_with_equal_content_because_its_dead_letter_is_requeued():
    history = revisions("dead", "in_flight", mine=2, contents="aa")
    assert isinstance(validate(an_entry(), a_context(an_entry(), history=history)), Duplicate)


@pytest.mark.parametrize("state", ["discarded", "superseded"])
def test_a_revision_that_nobody_wants_stands_for_nothing(state):
    history = revisions(state, "in_flight", mine=2, contents="aa")
    assert isinstance(validate(an_entry(), a_context(an_entry(), history=history)), Validated)


def test_a_third_equal_revision_is_a_duplicate_of_the_first_not_of_the_second():
    history = revisions("in_flight", "duplicate", "in_flight", mine=3, contents="aaa")
    assert validate(an_entry(), a_context(an_entry(), history=history)).of == "r-1"


@pytest.mark.parametrize("state", ["posted", "reconciled", "submitted"])
def test_an_older_revision_that_arrives_after_a_newer_one_reached_the_target_is_superseded(state):
    history = revisions("in_flight", state, mine=1)
    assert validate(an_entry(), a_context(an_entry(), history=history)) == Superseded(by="revision 2")


def test_an_older_revision_passes_while_the_newer_one_is_still_on_its_way():
    history = revisions("in_flight", "in_flight", mine=1)
    assert isinstance(validate(an_entry(), a_context(an_entry(), history=history)), Validated)


def test_another_record_with_the_same_business_key_flags_and_holds_nothing_up():
    history = replace(revisions("posted", "in_flight", mine=2), same_business=("r-other",))
    passed = validate(an_expense(), a_context(an_expense(), history=history))
    assert passed.flags == ("POSSIBLE_DUPLICATE",)


def test_other_revisions_of_the_same_record_are_no_possible_duplicates():
    history = replace(revisions("posted", "in_flight", mine=2), same_business=("r-1", MINE))
    assert validate(an_expense(), a_context(an_expense(), history=history)).flags == ()


# Attributes, numbers, currencies


def test_what_the_rules_require_must_be_there():
    rules = Rules(required={"time_entry": ("project", "task")})
    error = validating_refused(an_entry(), rules=rules)
    assert (error.code.name, "task" in str(error)) == ("MISSING_ATTRIBUTE", True)
    entry = an_entry(task="T-1")
    assert validate(entry, a_context(entry, rules=rules))


def test_blanks_do_not_fill_what_the_contract_demands():
    assert validating_refused(a_customer(name="  ")).code.name == "MISSING_ATTRIBUTE"


@pytest.mark.parametrize("number", ["NaN", "sNaN", "Infinity", "-Infinity", "1E+400", "1000000000000"])
def test_a_number_that_cannot_be_counted_with_is_refused(number):
    error = validating_refused(an_expense(amount=Decimal(number)))
    assert (error.code.name, "amount" in str(error)) == ("INVALID_DOCUMENT", True)
    assert validating_refused(an_entry(hours=Decimal(number))).code.name == "INVALID_DOCUMENT"


@pytest.mark.parametrize("number", ["sNaN", "Infinity", "1E+400"])
def test_what_cannot_be_counted_with_is_a_dead_letter_worth_nothing(number):
    for document in (an_expense(amount=Decimal(number)), an_entry(hours=Decimal(number), rate=Decimal(1))):
        context = a_context(document)
        item = replace(context.item, body=msgspec.Raw(msgspec.json.encode(document)))
        verdict = judge(validate, replace(context, item=item), 1)
        assert isinstance(verdict, Failed)
        assert (verdict.failure.code, verdict.amount) == ("INVALID_DOCUMENT", NOTHING)


@pytest.mark.parametrize(
    "document", [an_entry(rate=Decimal(-1)), an_entry(cost_rate=Decimal(-1)), a_card(rate=Decimal(-1))]
)
def test_a_negative_rate_is_refused(document):
    assert validating_refused(document).code.name == "RATE_NEGATIVE"


@pytest.mark.parametrize(
    "document",
    [
        an_expense(currency="ABC"),
        an_expense(currency="XXX"),
        an_expense(original_currency="DEM"),
        an_entry(currency="ABC"),
        a_card(currency="ABC"),
        a_project(currency="ABC"),
        a_customer(currency="ABC"),
    ],
)
def test_a_currency_outside_iso_4217_is_refused_in_every_document(document):
    assert validating_refused(document).code.name == "UNKNOWN_CURRENCY"


# Approval


@pytest.mark.parametrize("status", ["draft", "submitted", "rejected", ""])
def test_what_is_not_approved_is_refused(status):
    assert validating_refused(an_entry(status=status)).code.name == "NOT_APPROVED"
    assert validating_refused(an_expense(status=status)).code.name == "NOT_APPROVED"


def test_the_rules_say_which_states_count_as_approved_in_whatever_case():
    rules = Rules(approved_states=("Released",))
    entry = an_entry(status="RELEASED")
    assert validate(entry, a_context(entry, rules=rules))
    assert validating_refused(an_entry(), rules=rules).code.name == "NOT_APPROVED"


def test_master_data_needs_no_approval():
    worker = a_worker(status="pre-hire")
    assert validate(worker, a_context(worker))


# Amounts


def test_a_negative_amount_always_fails():
    for rules in (Rules(), Rules(zero_amounts="post")):
        assert validating_refused(an_expense(amount=Decimal("-0.01")), rules=rules).code.name == "AMOUNT_NOT_POSITIVE"


def test_an_amount_of_zero_is_a_dead_letter_unless_the_rules_want_it_posted():
    nothing = an_expense(amount=Decimal("0.00"))
    assert validating_refused(nothing).code.name == "AMOUNT_NOT_POSITIVE"
    assert validate(nothing, a_context(nothing, rules=Rules(zero_amounts="post")))


@pytest.mark.parametrize(
    ("amount", "currency", "passes"),
    [
        ("12.34", "EUR", True),
        ("12.3400", "EUR", True),
        ("12.345", "EUR", False),
        ("12", "JPY", True),
        ("12.5", "JPY", False),
        ("12.345", "KWD", True),
        ("1E+3", "EUR", True),
    ],
)
def test_an_amount_is_no_finer_than_its_currency(amount, currency, passes):
    expense = an_expense(amount=Decimal(amount), currency=currency)
    if passes:
        assert validate(expense, a_context(expense))
    else:
        assert validating_refused(expense).code.name == "AMOUNT_TOO_FINE"


@pytest.mark.parametrize("tax", ["-0.01", "12.31"])
def test_the_tax_is_a_part_of_the_amount(tax):
    assert validating_refused(an_expense(tax=Decimal(tax))).code.name == "INVALID_DOCUMENT"


# Dates


def test_the_future_begins_beyond_the_tolerance():
    tomorrow = an_entry(date=NOW.date() + timedelta(days=1))
    assert validate(tomorrow, a_context(tomorrow))
    later = an_expense(date=NOW.date() + timedelta(days=2))
    assert validating_refused(later).code.name == "DATE_IN_FUTURE"
    assert validate(later, a_context(later, rules=Rules(future_days_max=2)))


def test_a_month_that_is_closed_for_all_is_closed_for_everyone():
    reference = a_reference(closed=[("*", "2026-03")])
    assert validating_refused(an_entry(), reference=reference).code.name == "PERIOD_CLOSED"


def test_a_month_closed_for_the_documents_own_legal_entity_is_closed():
    reference = a_reference(closed=[("DE01", "2026-03")])
    assert validating_refused(an_entry(legal_entity="DE01"), reference=reference).code.name == "PERIOD_CLOSED"


def test_another_entitys_closed_month_does_not_hold_up_a_document_whose_entity_is_not_known_yet():
    reference = a_reference(closed=[("MAIN", "2026-03")])
    assert validate(an_entry(), a_context(an_entry(), reference=reference))


@pytest.mark.parametrize(
    "document",
    [
        a_project(valid_from=DAY, valid_to=DAY - timedelta(days=1)),
        a_card(valid_from=DAY, valid_to=DAY - timedelta(days=1)),
        a_worker(hired_on=DAY, left_on=DAY - timedelta(days=1)),
    ],
)
def test_an_end_before_its_beginning_is_refused(document):
    assert validating_refused(document).code.name == "INVALID_DOCUMENT"


def test_a_rate_card_is_per_a_unit_that_the_rules_can_turn_into_hours():
    assert "'MON'" in str(validating_refused(a_card(unit="MON")))
    day = a_card(unit="DAY")
    assert validate(day, a_context(day))
