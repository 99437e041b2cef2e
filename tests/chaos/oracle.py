"""What became of every record: by the balance, and by our own reading of the queues and of the target's tables."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal

import msgspec

from tests.chaos.records import Truth

CENT = Decimal("0.01")

#: Journal entries that stand: neither reversed nor a reversal. A reference ends in `/<source's own id>/<revision>`.
STANDING = """
    select e.reference, e.amount_minor, coalesce(sum(l.debit_minor), 0), coalesce(sum(l.credit_minor), 0)
    from ledger_entries e left join ledger_lines l on l.entry = e.number
    where e.reversed_by is null and e.reverses is null group by e.number
"""
ACCEPTED = "select subject, revision, state from records"
DEAD = "select subject, code from dead_letters where status = 'open'"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Lists of ids; everything but `amount` and `expected_amount` is empty when nothing is wrong."""

    not_accepted: int
    lost: list[str]
    twice: list[str]
    wrong_amount: list[str]
    unbooked: list[str]
    unexpected_dead: list[str]
    missing_dead: list[str]
    left_in_queues: dict[str, int]
    left_owed: int
    unfinished: dict[str, str]
    balance: list[str]
    amount: Decimal
    expected_amount: Decimal

    @property
    def holds(self) -> bool:
        return self.amount == self.expected_amount and not any(self.wrong().values())

    def wrong(self) -> dict[str, object]:
        """What is wrong, by what it is called."""
        return {
            "rows not accepted": self.not_accepted,
            "lost": self.lost,
            "posted twice": self.twice,
            "posted with another amount": self.wrong_amount,
            "posted, with lines of another sum": self.unbooked,
            "dead letters that nobody expected": self.unexpected_dead,
            "dead letters that are missing": self.missing_dead,
            "left in queues": self.left_in_queues,
            "left owed to the broker": self.left_owed,
            "unfinished": self.unfinished,
            "the balance": self.balance,
        }


def judge(
    truth: Truth,
    *,
    accepted: Sequence[tuple[str, str, str]],
    standing: Sequence[tuple[str, int, int, int]],
    dead: Sequence[tuple[str, str]],
    queues: Mapping[str, int],
    owed: int,
    balance: str,
    balance_status: int,
) -> Verdict:
    """Hold what was read (rows of ACCEPTED, STANDING and DEAD) against the truth of the input files."""
    held = [(reference.rsplit("/", 2)[-2], CENT * minor) for reference, minor, _, _ in standing]
    times = Counter(declaration for declaration, _ in held)
    expected = truth.posted
    dead_subjects = {subject for subject, _ in dead}
    return Verdict(
        not_accepted=truth.approvals - len({(subject, revision) for subject, revision, _ in accepted}),
        lost=sorted(expected.keys() - times.keys()),
        twice=sorted(declaration for declaration, count in times.items() if count > 1),
        wrong_amount=sorted(
            {f"{declaration}: {amount}" for declaration, amount in held if amount != expected.get(declaration)}
        ),
        unbooked=sorted(
            f"{reference}: {debit} {credit}"
            for reference, minor, debit, credit in standing
            if not minor == debit == credit
        ),
        unexpected_dead=sorted(f"{subject}: {code}" for subject, code in dead if subject not in truth.worthless),
        missing_dead=sorted(truth.worthless - dead_subjects),
        left_in_queues={name: count for name, count in queues.items() if count},
        left_owed=owed,
        unfinished={
            f"{subject} {revision}": state
            for subject, revision, state in accepted
            if state in ("in_flight", "in_doubt", "parked", "submitted", "posted")
        },
        balance=_balance(truth, balance, balance_status),
        amount=sum((amount for _, amount in held), Decimal(0)),
        expected_amount=truth.total,
    )


def _balance(truth: Truth, said: str, status: int) -> list[str]:
    """What is wrong with what `tieout balance --json` says."""
    sheets = [sheet for sheet in json.loads(said or "[]") if sheet["document_type"] == "expense.v1"]
    if status != 0 or len(sheets) != 1:
        return [f"exit status {status}, {len(sheets)} sheets: {said[:2000]}"]
    (sheet,) = sheets
    reconciled = Decimal(sheet["amounts"]["reconciled"])
    claims = {
        "balanced": sheet["balanced"],
        "nothing stranded": sheet["stranded"] == 0,
        f"read and accepted {truth.approvals}": sheet["read"] == sheet["accepted"] == truth.approvals,
        f"reconciled {len(truth.posted)}": sheet["reconciled"] == len(truth.posted),
        f"reconciled {truth.total}": reconciled == truth.total,
        f"dead {len(truth.worthless)}": sheet["dead"] >= len(truth.worthless),
    }
    return [f"not {claim}: {sheet}" for claim, holds in claims.items() if not holds]
