"""The oracle sees what is wrong: each finding, planted in what a right run leaves behind, is found."""

import json
from collections.abc import Callable
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from tests.chaos.oracle import Verdict, judge
from tests.chaos.records import Truth, truth_of, write_files

TRUTH = Truth(4, {"A": Decimal("10.00"), "B": Decimal("20.50"), "C": Decimal("0.00")})

Reading = dict[str, Any]


def a_right_reading() -> Reading:
    sheet = {
        "document_type": "expense.v1",
        "balanced": True,
        "stranded": 0,
        "read": 4,
        "accepted": 4,
        "reconciled": 2,
        "dead": 1,
        "amounts": {"reconciled": "30.50"},
    }
    return {
        "accepted": [
            ("A", "1", "superseded"),
            ("A", "2", "reconciled"),
            ("B", "1", "reconciled"),
            ("C", "1", "dead"),
        ],
        "standing": [
            ("ledger/expense.v1/tue/A/2", 1_000, 1_000, 1_000),
            ("ledger/expense.v1/tue/B/1", 2_050, 2_050, 2_050),
        ],
        "dead": [("C", "ZERO_AMOUNT")],
        "queues": {"tieout.post.live": 0},
        "owed": 0,
        "sheet": sheet,
        "balance_status": 0,
    }


def verdict_on(reading: Reading) -> Verdict:
    sheet = reading.pop("sheet")
    return judge(TRUTH, balance=json.dumps([sheet]), **reading)


def test_a_right_run_holds():
    verdict = verdict_on(a_right_reading())
    assert verdict.holds, verdict.wrong()
    assert verdict.amount == verdict.expected_amount == Decimal("30.50")


def forget_one(reading: Reading) -> None:
    del reading["standing"][1]


def post_one_twice(reading: Reading) -> None:
    reading["standing"].append(("ledger/expense.v1/tue/A/1", 900, 900, 900))


def post_an_older_amount(reading: Reading) -> None:
    reading["standing"][0] = ("ledger/expense.v1/tue/A/1", 900, 900, 900)


def book_the_lines_twice(reading: Reading) -> None:
    reading["standing"][0] = ("ledger/expense.v1/tue/A/2", 1_000, 2_000, 2_000)


def accept_one_less(reading: Reading) -> None:
    del reading["accepted"][0]


def post_what_is_worth_nothing(reading: Reading) -> None:
    reading["standing"].append(("ledger/expense.v1/tue/C/1", 0, 0, 0))


def lose_a_dead_letter(reading: Reading) -> None:
    reading["dead"].clear()


def give_up_a_good_one(reading: Reading) -> None:
    reading["dead"].append(("B", "BROKER"))


def leave_a_message(reading: Reading) -> None:
    reading["queues"]["tieout.dead"] = 1


def leave_one_owed(reading: Reading) -> None:
    reading["owed"] = 1


def leave_one_unread(reading: Reading) -> None:
    reading["accepted"][2] = ("B", "1", "posted")


def fail_the_balance(reading: Reading) -> None:
    reading["balance_status"] = 1


def strand_one(reading: Reading) -> None:
    reading["sheet"]["stranded"] = 1


@pytest.mark.parametrize(
    ("plant", "found_as"),
    [
        (forget_one, "lost"),
        (post_one_twice, "posted twice"),
        (post_an_older_amount, "posted with another amount"),
        (book_the_lines_twice, "posted, with lines of another sum"),
        (accept_one_less, "rows not accepted"),
        (post_what_is_worth_nothing, "posted with another amount"),
        (lose_a_dead_letter, "dead letters that are missing"),
        (give_up_a_good_one, "dead letters that nobody expected"),
        (leave_a_message, "left in queues"),
        (leave_one_owed, "left owed to the broker"),
        (leave_one_unread, "unfinished"),
        (fail_the_balance, "the balance"),
        (strand_one, "the balance"),
    ],
)
def test_what_is_wrong_is_found(plant: Callable[[Reading], None], found_as: str):
    reading = a_right_reading()
    plant(reading)
    verdict = verdict_on(reading)
    assert not verdict.holds
    assert verdict.wrong()[found_as]


def test_the_truth_of_the_files_is_what_was_drawn(tmp_path):
    paths = write_files(tmp_path, 400, 7, Random(1))
    truth = truth_of(paths)
    assert len(paths) == 7
    assert truth.approvals == 400
    assert len(truth.amounts) < 400, "some are approved again"
    assert truth.worthless
    assert sum(truth.posted.values()) == truth.total
