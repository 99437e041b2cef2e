from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.money import Money, UnknownCurrency, minor_units


@pytest.mark.parametrize(("currency", "decimals"), [("EUR", 2), ("JPY", 0), ("KWD", 3), ("XXX", 0)])
def test_minor_units_follow_iso_4217(currency, decimals):
    assert minor_units(currency) == decimals


def test_a_currency_nobody_issues_is_refused():
    with pytest.raises(UnknownCurrency, match="QQQ"):
        minor_units("QQQ")


def test_amounts_round_half_up_as_invoices_do():
    assert Money(amount=Decimal("0.125"), currency="EUR").rounded().amount == Decimal("0.13")
    assert Money(amount=Decimal("-0.125"), currency="EUR").rounded().amount == Decimal("-0.13")


@given(st.integers(-(10**15), 10**15), st.sampled_from(["EUR", "JPY", "KWD"]))
def test_minor_units_and_back_lose_nothing(minor, currency):
    assert Money.of_minor(minor, currency).minor() == minor
