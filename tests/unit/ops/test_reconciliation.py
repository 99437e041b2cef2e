from decimal import Decimal

from contracts.money import Money
from ops.reconciliation import compared
from pipeline.ports import Total

KEY = ("expense.v1", "EUR")


def total(count: int, amount: str) -> Total:
    return Total(document_type="expense.v1", amount=Money(amount=Decimal(amount), currency="EUR"), count=count)


def test_equal_counts_and_amounts_tie_out():
    [comparison] = compared("ledger", [total(3, "30.00")], [total(3, "30.00")])
    assert comparison.equal


def test_one_document_too_many_on_either_side_does_not():
    assert not compared("ledger", [total(3, "30.00")], [total(4, "40.00")])[0].equal
    assert not compared("ledger", [total(4, "40.00")], [total(3, "30.00")])[0].equal


def test_a_cent_does_not():
    assert not compared("ledger", [total(3, "30.00")], [total(3, "30.01")])[0].equal


def test_what_only_one_side_knows_stands_against_nothing():
    [comparison] = compared("ledger", [], [total(1, "5.00")])
    assert (comparison.ours, comparison.theirs, comparison.equal) == (0, 1, False)


def test_calls_under_way_may_be_on_one_side_already_and_no_more_than_they():
    ours = [total(3, "30.00")]
    assert compared("ledger", ours, [total(5, "50.00")], under_way={KEY: 2})[0].equal
    assert not compared("ledger", ours, [total(6, "60.00")], under_way={KEY: 2})[0].equal
