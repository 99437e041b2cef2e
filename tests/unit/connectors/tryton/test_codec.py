"""Tryton's types in JSON, both ways."""

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.http.pointers import decoded as json_decoded
from connectors.tryton.codec import Undecodable, decoded, encoded

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text()
    | st.decimals(allow_nan=False, allow_infinity=False, places=6)
    | st.dates()
    | st.datetimes(timezones=st.just(UTC))
    | st.times()
    | st.timedeltas(timedelta(days=-10_000), timedelta(days=10_000))
    | st.binary()
)
NAMES = st.text().filter(lambda name: name != "__class__")
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner), max_leaves=10)


@given(VALUES)
def test_what_is_written_is_read_back(value):
    assert decoded(json_decoded(msgspec.json.encode(encoded(value)))) == value


def test_the_forms_are_tryton_s():
    assert encoded(Decimal("150.00")) == {"__class__": "Decimal", "decimal": "150.00"}
    assert encoded(Decimal("1E+3")) == {"__class__": "Decimal", "decimal": "1000"}
    assert encoded(date(2026, 10, 5)) == {"__class__": "date", "year": 2026, "month": 10, "day": 5}
    assert encoded(timedelta(hours=7.5)) == {"__class__": "timedelta", "seconds": 27000.0}
    assert encoded([["date", ">=", date(2026, 1, 2)]])[0][2]["__class__"] == "date"
    assert encoded(time(1, 2)) == {"__class__": "time", "hour": 1, "minute": 2, "second": 0, "microsecond": 0}
    assert encoded(b"x") == {"__class__": "bytes", "base64": "eA=="}
    assert encoded(7.5) == 7.5


def test_moments_are_in_utc_on_the_wire():
    moment = datetime(2026, 3, 5, 12, 0, tzinfo=timezone(timedelta(hours=2)))
    assert encoded(moment)["hour"] == 10
    assert decoded(encoded(moment)) == moment


@pytest.mark.parametrize(
    "value",
    [
        {"__class__": "Query", "sql": "x"},
        {"__class__": "Decimal"},
        {"__class__": "Decimal", "decimal": "much"},
        {"__class__": "date", "year": 2026, "month": 13, "day": 1},
        {"__class__": "bytes", "base64": "*"},
    ],
)
def test_what_can_t_be_read_is_said_so(value):
    with pytest.raises(Undecodable):
        decoded({"deep": [value]})


def test_what_tryton_has_no_type_for_is_a_defect():
    with pytest.raises(TypeError, match="no object"):
        encoded([object()])
