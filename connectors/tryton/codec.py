"""Tryton's JSON: what JSON has no type for travels as an object that names its class."""

import base64
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any


class Undecodable(ValueError):
    """A value of a class that Tryton is not known to send."""


def encoded(value: Any) -> Any:
    """A value with everything in it as Tryton takes it.

    Moments with a zone are turned to UTC, on which a server's clock is expected to run: Tryton's have none.
    Floats stay what they are: quantities are floats in Tryton.

    Raises:
      TypeError: there is nothing in Tryton that it could be.
    """
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Decimal():
            return {"__class__": "Decimal", "decimal": format(value, "f")}
        case datetime():
            moment = value.astimezone(UTC) if value.tzinfo else value
            return {"__class__": "datetime", **_day(moment), **_clock(moment)}
        case date():
            return {"__class__": "date", **_day(value)}
        case time():
            return {"__class__": "time", **_clock(value)}
        case timedelta():
            return {"__class__": "timedelta", "seconds": value.total_seconds()}
        case bytes():
            return {"__class__": "bytes", "base64": base64.b64encode(value).decode()}
        case dict():
            return {str(name): encoded(one) for name, one in value.items()}
        case list() | tuple() | set() | frozenset():
            return [encoded(one) for one in value]
    raise TypeError(f"Tryton has no {type(value).__name__}")


def decoded(value: Any) -> Any:
    """The inverse: moments are aware, in UTC.

    Raises:
      Undecodable: a class that is not known, or one without what it is made of.
    """
    match value:
        case list():
            return [decoded(one) for one in value]
        case {"__class__": str(name)}:
            try:
                return _made(name, value)
            except (KeyError, TypeError, ValueError, ArithmeticError) as error:
                raise Undecodable(f"{name} from {sorted(value)}: {type(error).__name__} {error}") from None
        case dict():
            return {name: decoded(one) for name, one in value.items()}
    return value


def _made(name: str, parts: dict[str, Any]) -> Any:
    match name:
        case "Decimal":
            return Decimal(parts["decimal"])
        case "date":
            return date(parts["year"], parts["month"], parts["day"])
        case "datetime":
            clock = parts["hour"], parts["minute"], parts["second"], parts["microsecond"]
            return datetime(parts["year"], parts["month"], parts["day"], *clock, tzinfo=UTC)
        case "time":
            return time(parts["hour"], parts["minute"], parts["second"], parts["microsecond"])
        case "timedelta":
            # Through whole microseconds: what is read may be a Decimal, and a float would be rounded twice.
            return timedelta(microseconds=round(Decimal(str(parts["seconds"])) * 1_000_000))
        case "bytes":
            return base64.b64decode(parts["base64"], validate=True)
    raise ValueError("no such class")


def _day(value: date) -> dict[str, int]:
    return {"year": value.year, "month": value.month, "day": value.day}


def _clock(value: datetime | time) -> dict[str, int]:
    return {"hour": value.hour, "minute": value.minute, "second": value.second, "microsecond": value.microsecond}
