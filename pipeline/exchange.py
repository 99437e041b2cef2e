"""Exchange rates: what one currency is worth in another, as the cross-reference has it for either direction."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal, InvalidOperation

from contracts.money import minor_units
from pipeline.codes import EXCHANGE_RATE_MISSING
from pipeline.errors import PermanentError

KIND = "exchange_rate"

#: A rate lies between 10 to the power of minus this and plus this; anything else is a slip of the pen.
magnitude_max = 12


def exchange_rate(look_up: Callable[[str, str, date], str | None], currency: str, into: str, on: date) -> Decimal:
    """How much one unit of `currency` is worth in `into` on this day.

    Args:
      look_up: the value of a kind and key on a day (`exchange_rate`, `CHF/EUR`).

    Raises:
      PermanentError: EXCHANGE_RATE_MISSING, nobody has said, or what was said is no rate.
    """
    if currency == into:
        return Decimal(1)
    if (direct := look_up(KIND, f"{currency}/{into}", on)) is not None:
        return _rate(direct, f"{currency}/{into}")
    if (inverse := look_up(KIND, f"{into}/{currency}", on)) is not None:
        return 1 / _rate(inverse, f"{into}/{currency}")
    raise PermanentError(EXCHANGE_RATE_MISSING, f"no exchange rate {currency}/{into} on {on}")


def check_rate(pair: str, text: str) -> None:
    """Refuse what `exchange_rate` could not use, before anybody relies on it.

    Raises:
      ValueError: the key is no pair of ISO 4217 currencies such as `CHF/EUR`, or the value is no number above 0.
    """
    currencies = pair.split("/")
    if len(currencies) != 2:
        raise ValueError(f"exchange_rate {pair!r}: expected two currencies such as CHF/EUR")
    for currency in currencies:
        minor_units(currency)
    if _number(text) is None:
        raise ValueError(f"exchange_rate {pair} is {text!r}: expected a number above 0 such as 1.0650")


def _rate(text: str, pair: str) -> Decimal:
    rate = _number(text)
    if rate is None:
        raise PermanentError(EXCHANGE_RATE_MISSING, f"exchange rate {pair} is {text!r}: expected a number above 0")
    return rate


def _number(text: str) -> Decimal | None:
    try:
        rate = Decimal(text)
    except InvalidOperation:
        return None
    return rate if rate.is_finite() and rate > 0 and abs(rate.adjusted()) <= magnitude_max else None
