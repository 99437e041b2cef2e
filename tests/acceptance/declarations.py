"""The real file of point 11 (BPI Challenge 2020) where it is present, and the truth computed from its raw rows."""

import csv
import gzip
import os
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import msgspec

from tests.acceptance.product import REPOSITORY

MAPPING = REPOSITORY / "examples" / "bpi2020" / "mapping.toml"
FINAL = ("Declaration FINAL_APPROVED by SUPERVISOR", "Declaration FINAL_APPROVED by DIRECTOR")


def real_file() -> Path | None:
    """The declarations, named by TIEOUT_DECLARATIONS or in a `shared/data` folder beside the checkout."""
    named = os.environ.get("TIEOUT_DECLARATIONS")
    path = Path(named) if named else REPOSITORY.parent / "shared" / "data" / "international_declarations.csv.gz"
    return path if path.exists() else None


class Truth(msgspec.Struct, frozen=True):
    """What must come out: computed from the raw rows, by none of our code."""

    rows: int
    approvals: int
    amounts: dict[str, Decimal]

    @property
    def total(self) -> Decimal:
        return sum(self.amounts.values(), Decimal(0))

    @property
    def zero(self) -> int:
        return sum(amount == 0 for amount in self.amounts.values())


def truth_of(path: Path) -> Truth:
    rows = approvals = 0
    amounts: dict[str, Decimal] = {}
    with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as file:
        for row in csv.DictReader(file):
            rows += 1
            if row["activity"] in FINAL:
                approvals += 1
                amounts[row["declaration_id"]] = Decimal(row["amount"]).quantize(Decimal("0.01"), ROUND_HALF_UP)
    return Truth(rows, approvals, amounts)


def a_small_file(path: Path, declarations: int = 300) -> Path:
    """A file of the same shape where the real one is not: every third declaration is approved twice, one is 0."""
    columns = "declaration_id,declaration_number,activity,timestamp,role,amount,budget,permit_id,permit_budget"
    columns += ",requested_budget,organizational_entity,project,task,activity_number,event_id"
    with path.open("w", newline="") as file:
        file.write(columns + "\n")
        for number in range(declarations):
            amount = 0.0 if number == 7 else 10 + number * 1.2345678
            events = ["Declaration SUBMITTED by EMPLOYEE", FINAL[number % 2], "Payment Handled"]
            if number % 3 == 0:
                events.insert(2, FINAL[number % 2])
            for step, activity in enumerate(events):
                file.write(
                    f"declaration {number},declaration number {number},{activity},"
                    f"2018-03-{1 + number % 28:02}T0{step}:00:00.000+01:00,ROLE,{amount},budget 1,permit {number},"
                    f"budget 2,100.0,organizational unit {number % 5},project {number % 9},"
                    f"UNKNOWN,UNKNOWN,st_{number}_{step}\n"
                )
    return path
