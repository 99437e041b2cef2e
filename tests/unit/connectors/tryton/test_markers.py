"""Our marks: found again whatever the texts around them, and whatever the ids are made of."""

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.tryton.markers import (
    TimeMark,
    beginning_of,
    duration_of,
    escaped,
    hours_of,
    key_in,
    key_line,
    subject_of,
    time_mark_in,
)
from contracts.money import Money
from pipeline.ports import posting_key

IDS = st.text(min_size=1, max_size=12)
#: Ids in which slashes, brackets, digits and dots meet, where confusion is to be had.
AWKWARD = st.text("/.1[] %E-_\\", min_size=1, max_size=6)


def a_mark(reference: str = "tryton/time_entry.v1/psa/TE-1/1", hours: str = "7.5", **fields: str) -> TimeMark:
    amount = Money(amount=Decimal(fields.get("amount", "1125.00")), currency="EUR")
    return TimeMark(reference=reference, amount=amount, hours=Decimal(hours), worker=fields.get("worker", "W-1"))


def test_a_line_says_what_it_is_worth_and_for_how_long():
    text = a_mark().described("Design  review\n")
    assert text == "Design review [tieout tryton/time_entry.v1/psa/TE-1/1 1125.00 EUR 7.5 h by W-1]"


@given(IDS | AWKWARD, IDS | AWKWARD, st.text())
def test_a_mark_is_read_back_whatever_it_is_made_of(subject, worker, note):
    mark = a_mark(posting_key("tryton", "time_entry.v1", "psa", subject, "1"), worker=worker)
    text = mark.described(note)
    assert text.isprintable()
    read_note, read = time_mark_in(text)
    assert read == mark
    assert a_mark().described(read_note) == a_mark().described(note)


def test_people_may_write_around_a_mark_and_a_note_can_t_forge_one():
    mark = a_mark()
    assert time_mark_in(f"a {mark.described('b')} c ") == ("a b c", mark)
    forged = a_mark("tryton/time_entry.v1/psa/OTHER/1", amount="9").described("x")
    assert time_mark_in(mark.described(forged))[1] == mark
    assert "OTHER" in time_mark_in(mark.described(forged))[0]
    assert time_mark_in("[tieout a 1 EUR 2 h") == ("[tieout a 1 EUR 2 h", None)


def test_whoever_changes_the_hours_changes_the_money():
    mark = a_mark()
    assert mark.worth(timedelta(hours=7.5)) == mark.amount
    assert mark.worth(timedelta(hours=3)).amount == Decimal("450.00")
    assert mark.worth(timedelta()).amount == 0
    assert mark.hours_held(timedelta(hours=7.5)) == Decimal("7.5")
    assert mark.hours_held(timedelta(hours=8)) == 8


def test_hours_that_no_clock_can_keep_exactly_are_still_the_same_hours():
    mark = a_mark(hours="0.333333")
    assert mark.worth(duration_of(Decimal("0.333333"))) == mark.amount
    assert str(mark.hours_held(duration_of(Decimal("0.333333")))) == "0.333333"


@given(st.integers(0, 10**13))
def test_hours_are_fine_enough_for_every_duration(microseconds):
    duration = timedelta(microseconds=microseconds)
    assert duration_of(hours_of(duration)) == duration


@given(IDS | AWKWARD, st.text())
def test_a_comment_tells_its_key_whatever_else_is_in_it(key, text):
    assert key_in(f"{text}\n{key_line(key)}") == key


def test_comments_without_a_key_have_none():
    assert key_in("Website [phase 2]") is None
    assert key_line("P 1%") == "[tieout P%201%25]"


@given(AWKWARD, AWKWARD, AWKWARD, AWKWARD)
def test_a_document_and_its_corrections_have_one_subject_and_other_documents_others(source, other_source, ids, other):
    def subject(source: str, ids: str, revision: str) -> str:
        return subject_of(posting_key("tryton", "time_entry.v1", source, ids, revision))

    assert len({subject(source, ids, revision) for revision in ("1", "2", "2/1", "a.b/c")}) == 1
    if (source, ids) != (other_source, other):
        assert subject(source, ids, "1") != subject(other_source, other, "1")


@given(AWKWARD, AWKWARD, AWKWARD)
def test_every_key_of_a_subject_begins_alike(source, ids, revision):
    key = posting_key("tryton", "time_entry.v1", source, ids, revision)
    assert key.startswith(beginning_of(subject_of(key)))
    assert escaped(key).startswith(escaped(beginning_of(subject_of(key))))


@pytest.mark.parametrize("reference", ["", "a", "a/b", "a/b/c/d/e/f", "a/b/c/d/e/1.1", "a/b/c/d/e/1.1.99", "////"])
def test_what_is_no_posting_key_does_no_harm(reference):
    assert isinstance(beginning_of(subject_of(reference)), str)
