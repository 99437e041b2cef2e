"""Money: a decimal amount and the ISO 4217 currency that gives it meaning."""

from decimal import ROUND_HALF_UP, Decimal
from functools import cache

from iso4217 import Currency

from contracts.base import Contract, CurrencyCode

#: ISO 4217's own code for "no currency is involved": hours, customers, projects.
NO_CURRENCY = "XXX"

#: No single amount or rate reaches this, so that sums of minor units stay within 64 bits.
amount_max = Decimal(10) ** 12


class UnknownCurrency(ValueError):
    """The code is not in ISO 4217."""


@cache
def minor_units(currency: str) -> int:
    """How many decimals the currency has (EUR 2, JPY 0, KWD 3).

    Raises:
      UnknownCurrency: the code is not in ISO 4217's list of active currencies.
    """
    if currency == NO_CURRENCY:
        return 0
    try:
        return Currency(currency).exponent or 0
    except ValueError:
        raise UnknownCurrency(f"{currency!r} is not an ISO 4217 currency") from None


class Money(Contract, frozen=True, kw_only=True):
    """An amount in a currency; never a float, never without its currency."""

    amount: Decimal
    currency: CurrencyCode

    def rounded(self) -> "Money":
        """Round half up to the currency's minor unit, as an invoice would."""
        quantum = Decimal(1).scaleb(-minor_units(self.currency))
        return Money(amount=self.amount.quantize(quantum, ROUND_HALF_UP), currency=self.currency)

    def minor(self) -> int:
        """The rounded amount in minor units (cents): exact to add up in any database."""
        return int(self.rounded().amount.scaleb(minor_units(self.currency)))

    @classmethod
    def of_minor(cls, amount: int, currency: str) -> "Money":
        """The inverse of `minor`."""
        return cls(amount=Decimal(amount).scaleb(-minor_units(currency)), currency=currency)

    def __str__(self) -> str:
        return f"{self.amount:,} {self.currency}"


NOTHING = Money(amount=Decimal(0), currency=NO_CURRENCY)
