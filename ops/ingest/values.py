"""From the text of a cell to a value: decimals, dates, timestamps, durations, booleans. Pure, and never a guess."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from functools import lru_cache
from zoneinfo import ZoneInfo

from contracts.money import amount_max

fraction_digits_max = 30
#: Wide enough that dividing by any factor and rounding afterwards rounds the true value.
_EXACT = Context(prec=80)
_PLAIN = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d{1,30}(?:\.0*)?", re.ASCII)
_SECONDS = re.compile(r"-?\d{1,15}(?:\.\d{1,9})?", re.ASCII)
_TRUE = frozenset(("true", "t", "yes", "y", "1", "on", "wahr", "ja", "j", "vrai", "oui", "si", "sí", "sim", "x"))
_FALSE = frozenset(("false", "f", "no", "n", "0", "off", "falsch", "nein", "faux", "non", "não"))
_CLOCK = re.compile(r"(-?)(\d{1,4}):([0-5]\d)(?::([0-5]\d))?", re.ASCII)
_ISO_DURATION = re.compile(r"(-?)P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?", re.ASCII)
_WORDED = re.compile(r"(-?)(?:(\d{1,4})\s*h)?\s*(?:(\d{1,4})\s*m(?:in)?)?", re.ASCII | re.IGNORECASE)
_LOOKALIKES = {" ": " \u00a0\u202f\u2009", "'": "'\u2019"}


class BadValue(ValueError):
    """The text is not such a value; the message says what was expected and how to mend it."""


def quoted(value: object) -> str:
    """The value as a message shows it: in quotes, and cut where it is long."""
    text = value if isinstance(value, str) else str(value)
    return repr(text if len(text) <= 60 else text[:57] + "...")


@lru_cache(maxsize=16)
def _grouped(decimal: str, thousands: str) -> re.Pattern[str]:
    """Digits in groups: `1.234.567,89`; two digits to a group are right in India, never in the last one."""
    group = f"[{re.escape(_LOOKALIKES.get(thousands, thousands))}]"
    return re.compile(
        rf"([+-]?)(\d{{1,3}}(?:{group}\d{{2,3}})*{group}\d{{3}}|\d*)(?:{re.escape(decimal)}(\d*))?", re.ASCII
    )


def parse_decimal(text: str, *, decimal: str = ".", thousands: str = "") -> Decimal:
    """An exact decimal: `1.234,56`, `-3`, `3-`, `(3.00)`, `1E+3`; digit groups where allowed and complete.

    Raises:
      BadValue: not a number in this notation, or too long to be kept exactly.
    """
    number, negative = text, False
    if number.startswith("(") and number.endswith(")"):
        number, negative = number[1:-1].strip(), True
    elif number.endswith("-") and number[:1] not in "+-":
        number, negative = number[:-1].rstrip(), True
    if thousands or decimal != ".":
        number = _regrouped(number, text, decimal, thousands)
    if not _PLAIN.fullmatch(number):
        raise BadValue(f"{quoted(text)} is not a number{_notation(number, decimal)}")
    if negative and number[0] in "+-":
        raise BadValue(f"{quoted(text)} is not a number: it has two signs")
    return bounded(-Decimal(number) if negative else Decimal(number), text)


def _regrouped(number: str, text: str, decimal: str, thousands: str) -> str:
    """The same number with a point and without groups."""
    pattern = _grouped(decimal, thousands) if thousands else None
    if pattern is None:
        if decimal != "." and "." in number:
            raise BadValue(f'{quoted(text)} has a point; with `decimal = "{decimal}"` add `thousands = "."`')
        return number.replace(decimal, ".", 1)
    if not (match := pattern.fullmatch(number)):
        raise BadValue(f'{quoted(text)} is not a number with `decimal = "{decimal}"` and `thousands = "{thousands}"`')
    sign, whole, fraction = match.groups()
    return f"{sign}{re.sub('[^0-9]', '', whole)}.{fraction or ''}"


def _notation(number: str, decimal: str) -> str:
    if _CLOCK.fullmatch(number):
        return ': it looks like hours and minutes; add `type = "duration"`'
    if decimal == "." and "," in number:
        return ': it has a comma; add `decimal = ","` or `thousands = ","` to the mapping'
    return ""


def bounded(value: Decimal, text: object) -> Decimal:
    """The value in plain notation, without trailing zeros.

    Raises:
      BadValue: not finite, or with more digits than can be kept.
    """
    if not value.is_finite():
        raise BadValue(f"{quoted(text)} is not a number")
    if not value:
        return Decimal(0)
    if value.adjusted() >= amount_max.adjusted():
        raise BadValue(f"{quoted(text)} is too large: expected less than {amount_max:,}")
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -fraction_digits_max:
        raise BadValue(f"{quoted(text)} has more than {fraction_digits_max} decimals")
    value = value.normalize(_EXACT)
    return value if value.as_tuple().exponent <= 0 else value.quantize(Decimal(1), context=_EXACT)  # type: ignore[operator]


def scaled(value: Decimal, factor: Fraction | None, scale: int | None) -> Decimal:
    """The value times the factor, rounded half up (away from zero) to `scale` decimals."""
    if factor is not None:
        value = _EXACT.divide(_EXACT.multiply(value, Decimal(factor.numerator)), Decimal(factor.denominator))
    if scale is None:
        return value
    value = value.quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP, _EXACT)
    return value if value else abs(value)


def is_exact(factor: Fraction) -> bool:
    """Whether dividing by the factor's denominator always ends (only twos and fives in it)."""
    rest = factor.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1


def decimals(value: Decimal) -> int:
    """How many decimals the value needs."""
    exponent = value.normalize(_EXACT).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def parse_boolean(text: str) -> bool:
    """Yes and no in the usual words and languages.

    Raises:
      BadValue: none of them.
    """
    word = text.casefold()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise BadValue(f'{quoted(text)} is neither yes nor no; say which with `values = {{ "{text}" = true }}`')


def parse_integer(text: str) -> int:
    """A whole number of at most 30 digits, such as a version or a count of milliseconds.

    Raises:
      BadValue: anything else.
    """
    if not _WHOLE.fullmatch(text):
        raise BadValue(f"{quoted(text)} is not a whole number")
    return int(text.partition(".")[0])


def parse_duration(text: str) -> Decimal:
    """Hours from `7:30`, `07:30:00`, `PT7H30M` or `7h 30m`.

    Raises:
      BadValue: none of these.
    """
    for pattern in (_CLOCK, _WORDED, _ISO_DURATION):
        match = pattern.fullmatch(text)
        if match and any(match.groups()[1:]):
            parts = [int(part or 0) for part in match.groups()[1:]]
            days = parts.pop(0) if pattern is _ISO_DURATION else 0
            hours, minutes, seconds = (*parts, 0)[:3]
            total = _EXACT.divide(Decimal(days * 86400 + hours * 3600 + minutes * 60 + seconds), Decimal(3600))
            return -total if match[1] else total
    raise BadValue(f"{quoted(text)} is not a duration such as 7:30, PT7H30M or 7h 30m")


DateParser = Callable[[str], date]
TimestampParser = Callable[[str], datetime]


def date_parser(formats: Sequence[str], zone: ZoneInfo | None) -> DateParser:
    """A parser of dates: ISO, or one of these strptime formats; it raises BadValue.

    A timestamp gives its own local date; with `zone`, the date it has there.
    """

    @lru_cache(maxsize=8192)
    def parse(text: str) -> date:
        moment = _moment(text, formats, "date")
        if zone is not None and moment.tzinfo is not None:
            moment = _shifted(moment, zone, text)
        return moment.date()

    return parse


def timestamp_parser(formats: Sequence[str], zone: ZoneInfo | None) -> TimestampParser:
    """A parser of moments, in UTC. One without an offset is taken as local time in `zone`.

    The parser raises BadValue, also for a moment without an offset where no zone is given.
    """

    @lru_cache(maxsize=8192)
    def parse(text: str) -> datetime:
        moment = _moment(text, formats, "timestamp")
        if moment.tzinfo is None:
            if zone is None:
                raise BadValue(f'{quoted(text)} has no UTC offset; add the `timezone` it is in ("Europe/Berlin")')
            moment = moment.replace(tzinfo=zone)
        return _shifted(moment, UTC, text)

    return parse


def _moment(text: str, formats: Sequence[str], what: str) -> datetime:
    for form in formats:
        if form in ("epoch", "epoch_ms"):
            return _epoch(text, form)
        try:
            return datetime.strptime(text, form)
        except ValueError:
            continue
    if formats:
        raise BadValue(f"{quoted(text)} is not a {what} in the format {' or '.join(map(repr, formats))}")
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        pass
    raise BadValue(f'{quoted(text)} is not an ISO {what} (2026-03-31); give its `format`, as in "%d.%m.%Y"')


def _epoch(text: str, form: str) -> datetime:
    """Seconds (or milliseconds) since 1970 in UTC."""
    if not _SECONDS.fullmatch(text):
        raise BadValue(f"{quoted(text)} is not a count of {'milli' if form == 'epoch_ms' else ''}seconds since 1970")
    milliseconds = Decimal(text) if form == "epoch_ms" else Decimal(text) * 1000
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=float(milliseconds))
    except OverflowError:
        raise BadValue(f"{quoted(text)} lies outside the calendar") from None


def _shifted(moment: datetime, zone: tzinfo, text: str) -> datetime:
    try:
        return moment.astimezone(zone)
    except OverflowError:
        raise BadValue(f"{quoted(text)} lies outside the calendar") from None
