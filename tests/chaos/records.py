"""The records of a run, drawn from its seed, and what must become of them, by the raw rows and none of our code."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from random import Random

import msgspec

from tests.acceptance.declarations import FINAL, MAPPING

__all__ = ["MAPPING", "Truth", "truth_of", "write_files"]

COLUMNS = (
    "declaration_id,declaration_number,activity,timestamp,role,amount,budget,permit_id,permit_budget,requested_budget,"
    "organizational_entity,project,task,activity_number,event_id"
)
#: Of every hundred records: approved again with another amount (a correction), approved again as they were, worth 0.
CORRECTED, REPEATED, WORTHLESS = 3, 2, 1


def write_files(folder: Path, records: int, count: int, random: Random) -> list[Path]:
    """Write `records` final approvals into `count` files of the shape of examples/bpi2020; returns the files."""
    approvals = list(_approvals(records, random))
    size = -(-records // count)
    paths = []
    for start in range(0, records, size):
        path = folder / f"declarations-{len(paths):03}.csv"
        rows = [row for one in approvals[start : start + size] for row in _rows(*one)]
        path.write_text("\n".join([COLUMNS, *rows]) + "\n")
        paths.append(path)
    return paths


def _approvals(records: int, random: Random) -> Iterator[tuple[int, int, float]]:
    """Declaration, how often it had been approved before, and its amount."""
    amounts: list[float] = []
    times: list[int] = []
    for _ in range(records):
        kind = random.randrange(100)
        if amounts and kind < CORRECTED + REPEATED:
            again = random.randrange(len(amounts))
            times[again] += 1
            if kind < CORRECTED and amounts[again]:
                amounts[again] = random.uniform(1, 5_000)
            yield again, times[again], amounts[again]
        else:
            amounts.append(0.0 if random.randrange(100) < WORTHLESS else random.uniform(1, 5_000))
            times.append(0)
            yield len(amounts) - 1, 0, amounts[-1]


def _rows(declaration: int, time: int, amount: float) -> Iterator[str]:
    for hour, activity in enumerate(("Declaration SUBMITTED by EMPLOYEE", FINAL[declaration % 2])):
        yield (
            f"declaration {declaration},declaration number {declaration},{activity},"
            f"2018-{3 + time:02}-{1 + declaration % 28:02}T0{hour}:00:00.000+01:00,ROLE,{amount},budget 1,"
            f"permit {declaration},budget 2,100.0,organizational unit {declaration % 5},project {declaration % 9},"
            f"UNKNOWN,UNKNOWN,st_{declaration}_{time}_{hour}"
        )


class Truth(msgspec.Struct, frozen=True):
    """`approvals` rows to accept; `amounts` by declaration, as last approved."""

    approvals: int
    amounts: dict[str, Decimal]

    @property
    def posted(self) -> dict[str, Decimal]:
        """What the target must hold, once each."""
        return {declaration: amount for declaration, amount in self.amounts.items() if amount}

    @property
    def worthless(self) -> set[str]:
        """Refused by a business rule: each waits for a person, as a dead letter."""
        return {declaration for declaration, amount in self.amounts.items() if not amount}

    @property
    def total(self) -> Decimal:
        return sum(self.amounts.values(), Decimal(0))


def truth_of(paths: Sequence[Path]) -> Truth:
    """Read the files as they are."""
    approvals = 0
    last: dict[str, tuple[str, Decimal]] = {}
    for row in _approved(paths):
        approvals += 1
        amount = Decimal(row["amount"]).quantize(Decimal("0.01"), ROUND_HALF_UP)
        last[row["declaration_id"]] = max(last.get(row["declaration_id"], ("", amount)), (row["timestamp"], amount))
    return Truth(approvals, {declaration: amount for declaration, (_, amount) in last.items()})


def _approved(paths: Iterable[Path]) -> Iterator[dict[str, str]]:
    for path in paths:
        with path.open(newline="") as file:
            yield from (row for row in csv.DictReader(file) if row["activity"] in FINAL)
