"""Text to values: exact, and refused rather than guessed."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.ingest.values import (
    BadValue,
    date_parser,
    decimals,
    is_exact,
    parse_boolean,
    parse_decimal,
    parse_duration,
    parse_integer,
    scaled,
    timestamp_parser,
)

amounts = st.decimals(min_value=-(10**11), max_value=10**11, allow_nan=False, allow_infinity=False, places=4)
notations = st.sampled_from([(".", ","), (",", "."), (",", " "), (".", "'"), (",", ""), (".", "")])


@given(amounts, notations)
def test_a_number_written_in_any_notation_is_read_back_exactly(amount, notation):
    decimal, thousands = notation
    written = f"{amount:,f}".replace(",", "_").replace(".", decimal).replace("_", thousands)
    assert parse_decimal(written, decimal=decimal, thousands=thousands) == amount


@given(amounts, st.integers(0, 4))
def test_rounding_is_half_up_and_never_off_by_more_than_half(amount, scale):
    rounded = scaled(amount, None, scale)
    assert rounded == amount.quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP)
    assert abs(rounded - amount) * 2 <= Decimal(1).scaleb(-scale)


@given(st.integers(-(10**6), 10**6), st.integers(1, 9999), st.integers(0, 6))
def test_a_factor_is_applied_exactly_before_it_is_rounded(value, denominator, scale):
    exact = Fraction(value) / denominator * 10**scale
    away = (abs(exact) + Fraction(1, 2)).__floor__()
    assert scaled(Decimal(value), Fraction(1, denominator), scale) == Decimal(away if exact >= 0 else -away).scaleb(
        -scale
    )


@given(st.text(max_size=40))
def test_any_text_is_a_number_or_a_clear_refusal(text):
    try:
        value = parse_decimal(text, decimal=",", thousands=".")
    except BadValue:
        return
    assert value.is_finite()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", "12"), ("-12.50", "-12.5"), ("+.5", "0.5"), ("3.", "3"), ("12.50-", "-12.5"), ("(12.50)", "-12.5"),
        ("1E+3", "1000"), ("-0.00", "0"), ("007", "7"), ("999999999999.99", "999999999999.99"),
    ],
)  # fmt: skip
def test_numbers_as_exports_write_them(text, value):
    assert str(parse_decimal(text)) == value


@pytest.mark.parametrize(
    "text",
    [
        "", "-", "abc", "NaN", "Infinity", "1_000", "1 000", "٣", "1.2.3", "--1", "-1-", "(-1)", "0x10", "1e", "e5",
        "1e999", "1" * 13, "1" * 200_000, "0." + "1" * 40, "1.234,56",
    ],
)  # fmt: skip
def test_what_is_no_number_or_too_long_is_refused_in_a_short_line(text):
    with pytest.raises(BadValue) as caught:
        parse_decimal(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", ["12.34", "1.23,4", "1..234", "1.2345", ".123,4"])
def test_a_misplaced_group_is_refused_rather_than_read_a_thousandfold(text):
    with pytest.raises(BadValue):
        parse_decimal(text, decimal=",", thousands=".")


def test_a_point_where_the_comma_divides_is_refused_with_a_hint():
    with pytest.raises(BadValue, match="thousands"):
        parse_decimal("1234.56", decimal=",")


def test_a_comma_where_the_point_divides_is_refused_with_a_hint():
    with pytest.raises(BadValue, match='decimal = ","'):
        parse_decimal("12,50")


def test_groups_of_two_are_right_in_india_and_spaces_may_be_narrow():
    assert parse_decimal("12,34,567.89", thousands=",") == Decimal("1234567.89")
    assert parse_decimal("1\u202f234,5", decimal=",", thousands=" ") == Decimal("1234.5")
    assert parse_decimal("1’234.5", thousands="'") == Decimal("1234.5")


def test_a_factor_is_exact_if_its_divisor_has_only_twos_and_fives():
    assert is_exact(Fraction(1, 100))
    assert is_exact(Fraction(3))
    assert not is_exact(Fraction(1, 60))


@given(amounts)
def test_decimals_counts_only_those_that_are_needed(amount):
    needed = decimals(amount)
    assert amount == amount.quantize(Decimal(1).scaleb(-needed))
    assert needed == 0 or amount != amount.quantize(Decimal(1).scaleb(1 - needed))


days = st.dates(date(1900, 1, 1), date(9999, 12, 31))


@given(days, st.sampled_from(["%d.%m.%Y", "%m/%d/%Y", "%Y%m%d", "%d-%b-%Y"]))
def test_a_day_written_in_a_format_is_read_back(day, form):
    assert date_parser((form,), None)(day.strftime(form)) == day


@given(days)
def test_an_iso_day_needs_no_format(day):
    assert date_parser((), None)(day.isoformat()) == day


@given(st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1)), st.integers(-14 * 60, 14 * 60))
def test_a_timestamp_is_the_same_moment_in_utc_and_gives_its_own_local_day(moment, offset):
    local = moment.replace(tzinfo=timezone(timedelta(minutes=offset)))
    assert timestamp_parser((), None)(local.isoformat()) == local
    assert timestamp_parser((), None)(local.isoformat()).tzinfo == UTC
    assert date_parser((), None)(local.isoformat()) == local.date()


def test_a_time_zone_moves_the_day_of_a_utc_timestamp():
    berlin = ZoneInfo("Europe/Berlin")
    assert date_parser((), berlin)("2026-03-31T22:30:00Z") == date(2026, 4, 1)
    assert date_parser((), berlin)("2026-03-31T22:30:00") == date(2026, 3, 31)
    assert timestamp_parser((), berlin)("2026-07-01 12:00") == datetime(2026, 7, 1, 10, tzinfo=UTC)
    assert timestamp_parser((), None)("2026-07-01T12:00:00.000+0200") == datetime(2026, 7, 1, 10, tzinfo=UTC)


def test_a_timestamp_without_offset_needs_a_time_zone():
    with pytest.raises(BadValue, match="timezone"):
        timestamp_parser((), None)("2026-07-01 12:00")


@pytest.mark.parametrize("text", ["31.02.2026", "2026-02-30", "today", "", "99999-01-01", "01/02/2026"])
def test_what_is_no_day_is_refused(text):
    for formats in ((), ("%Y/%m/%d", "%d.%m.%Y")):
        with pytest.raises(BadValue):
            date_parser(formats, None)(text)


def test_the_end_of_all_days_is_a_day_and_no_crash():
    assert date_parser((), None)("9999-12-31") == date.max
    with pytest.raises(BadValue, match="calendar"):
        timestamp_parser((), None)("9999-12-31T23:30:00-05:00")
    with pytest.raises(BadValue, match="calendar"):
        timestamp_parser(("epoch",), None)("99999999999999")


def test_epochs_are_seconds_or_milliseconds_in_utc():
    assert timestamp_parser(("epoch",), None)("1774915200") == datetime(2026, 3, 31, tzinfo=UTC)
    assert date_parser(("epoch_ms",), None)("1774915200000") == date(2026, 3, 31)


def test_several_formats_are_tried_in_order():
    parse = date_parser(("%d.%m.%Y", "%Y-%m-%d"), None)
    assert parse("31.03.2026") == parse("2026-03-31") == date(2026, 3, 31)


@given(st.integers(0, 23), st.integers(0, 59))
def test_a_duration_is_the_same_in_every_spelling(hours, minutes):
    expected = Fraction(hours * 60 + minutes, 60)
    spellings = [
        f"{hours}:{minutes:02}",
        f"{hours:02}:{minutes:02}:00",
        f"PT{hours}H{minutes}M",
        f"{hours}h {minutes}m",
    ]
    for text in spellings:
        assert abs(Fraction(parse_duration(text)) - expected) < Fraction(1, 10**60)


@pytest.mark.parametrize("text", ["", "-", "7", "7:3", "7:61", "P", "PT", "h", "7,5", "a:bc"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(BadValue):
        parse_duration(text)


def test_a_negative_duration_keeps_its_sign():
    assert parse_duration("-1:30") == Decimal("-1.5")


def test_yes_and_no_in_several_languages():
    assert all(map(parse_boolean, ("Y", "yes", "TRUE", "1", "WAHR", "Ja", "oui")))
    assert not any(map(parse_boolean, ("N", "no", "FALSE", "0", "falsch", "Nein", "non")))
    with pytest.raises(BadValue, match="values"):
        parse_boolean("maybe")


def test_a_whole_number_has_no_fraction():
    assert parse_integer("42") == 42
    assert parse_integer("20260331235959123456") == 20260331235959123456
    assert parse_integer("7.00") == 7
    for text in ("4.5", "x", "", "1e3", "1" * 31):
        with pytest.raises(BadValue):
            parse_integer(text)
