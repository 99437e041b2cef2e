"""The month of the demo: time entries, expenses and corrections, with the faults planted that a month-end has."""

from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from random import Random

import msgspec

from ops.demo.firm import (
    CLOSED_DAYS,
    EXPIRED_RATE_PROJECT,
    FIRST_DAY,
    LAST_DAY,
    LATE_PROJECT,
    WORKER_WITHOUT_IDENTITY,
    Row,
    projects_of,
    psa_user,
    workers,
)

SEED = 20250930

#: How a day of eight hours is split: no two entries of a day alike, so that none looks like another's duplicate.
SPLITS = (("4.5", "2.5", "1"), ("4", "2", "1.5", "0.5"), ("3.5", "2.25", "1.25", "1"), ("3", "2.5", "1.75", "0.75"))
ABSENT = 0.06

CATEGORIES = {
    "Travel": (40, 420),
    "Hotel": (90, 310),
    "Meals": (9, 85),
    "Software": (15, 240),
    "Conference": (250, 1400),
}
EXPENSES = 290

#: How many of each fault are planted; the demo's tests hold the run against these.
EXACT_DUPLICATES, BUSINESS_DUPLICATES = 9, 5
CORRECTED_IN_FILE, CORRECTED_LATER = 6, 11
CLOSED_PERIOD_ENTRIES, CLOSED_PERIOD_EXPENSES = 12, 4
NOT_APPROVED_YET = 24
#: Two entries on top of a full day: the second one brings it above 24 hours.
NIGHT_SHIFTS = ("9.75", "9.5")
UNREADABLE_ENTRIES = (
    {"date": "31.09.2025"},
    {"decimal_hours": "two and a half"},
    {"date": ""},
    {"decimal_hours": "1,5h"},
)
UNREADABLE_EXPENSES = ({"amount": "n/a"}, {"currency": "euro"})


class Month(msgspec.Struct, frozen=True, kw_only=True):
    """The month as three export files."""

    time_entries: list[Row]
    corrections: list[Row]
    expenses: list[Row]


def generate(seed: int = SEED) -> Month:
    """The same month for the same seed, row by row."""
    random = Random(seed)
    entries = list(_time_entries(random))
    sound = [row for row in entries if _is_sound(row)]
    random.shuffle(sound)
    corrections = [_corrected(sound.pop(), "0.25") for _ in range(CORRECTED_LATER)]
    _plant_in_time_entries(entries, sound)
    expenses = list(_expenses(random))
    _plant_in_expenses(expenses, random)
    return Month(time_entries=entries, corrections=corrections, expenses=expenses)


def _is_sound(entry: Row) -> bool:
    """Whether nothing else is wrong with an entry, so that one fault is planted per row."""
    return entry["userid"] != psa_user(WORKER_WITHOUT_IDENTITY) and entry["projectid"] not in (
        LATE_PROJECT,
        EXPIRED_RATE_PROJECT,
    )


def _time_entries(random: Random) -> Iterator[Row]:
    number = 0
    for worker in workers():
        staffed = projects_of(worker, random)
        for day in _working_days():
            if random.random() < ABSENT:
                continue
            for position, hours in enumerate(random.choice(SPLITS)):
                number += 1
                project = staffed[position % len(staffed)]
                yield _time_entry(number, psa_user(worker["Employee_ID"]), project, day, hours, random)


def _time_entry(number: int, user: str, project: str, day: date, hours: str, random: Random) -> Row:
    return {
        "id": f"T-{number:05}",
        "rev": "1",
        "userid": user,
        "projectid": project,
        "taskid": f"{project}-{random.choice((1, 1, 2))}",
        "date": day.isoformat(),
        "decimal_hours": hours,
        "billable": "1",
        "status": "A",
        "notes": "",
    }


def _plant_in_time_entries(entries: list[Row], sound: list[Row]) -> None:
    """Late sheets of a closed month, a day of 27 hours, exact copies, revisions, sheets nobody approved, broken rows.

    Takes the rows it spoils, or copies, off the end of `sound`: no row has two faults.
    """
    numbers = iter(range(len(entries) + 1, len(entries) + 1000))

    def new(like: Row, **changes: str) -> Row:
        return {**like, "id": f"T-{next(numbers):05}", **changes}

    for index in range(CLOSED_PERIOD_ENTRIES):
        entries.append(new(sound.pop(), date=CLOSED_DAYS[index % 3].isoformat(), notes="late timesheet"))
    busy = sound.pop()
    entries += [new(busy, decimal_hours=hours, notes="night shift?") for hours in NIGHT_SHIFTS]
    entries += [new(sound.pop(), decimal_hours="0.25", status="S") for _ in range(NOT_APPROVED_YET)]
    entries += [_corrected(sound.pop(), "0.5") for _ in range(CORRECTED_IN_FILE)]
    entries += [dict(sound.pop()) for _ in range(EXACT_DUPLICATES)]
    entries += [new(sound.pop(), **fault) for fault in UNREADABLE_ENTRIES]


def _corrected(entry: Row, more: str) -> Row:
    """The next revision of an entry: somewhat more hours than before."""
    hours = Decimal(entry["decimal_hours"]) + Decimal(more)
    return {**entry, "rev": "2", "decimal_hours": str(hours), "notes": "corrected"}


def _expenses(random: Random) -> Iterator[Row]:
    staff = workers()
    staffed = {worker["Employee_ID"]: projects_of(worker, random) for worker in staff}
    days = list(_working_days())
    for number in range(1, EXPENSES + 1):
        worker = random.choice(staff)
        category = random.choices(list(CATEGORIES), weights=(34, 22, 30, 9, 5))[0]
        low, high = CATEGORIES[category]
        amount = Decimal(random.randint(low * 100, high * 100)) / 100
        yield {
            "expenseId": f"X-{number:04}",
            "version": 1,
            "reportId": f"REP-{worker['Employee_ID'][2:]}",
            "employee": worker["Employee_ID"],
            "project": random.choice(staffed[worker["Employee_ID"]]),
            "transactionDate": random.choice(days).isoformat(),
            "expenseType": category,
            "amount": f"{amount:.2f}",
            "currency": "CHF" if worker["Company"] == "CH01" else "EUR",
            "approvalStatus": "APPROVED",
        }


def _plant_in_expenses(expenses: list[Row], random: Random) -> None:
    """The same receipt handed in twice, expenses of the closed month, and two rows that can't be read."""
    sound = [row for row in expenses if row["expenseType"] != "Conference"]
    numbers = iter(range(len(expenses) + 1, len(expenses) + 100))

    def new(like: Row, **changes: str) -> Row:
        return {**like, "expenseId": f"X-{next(numbers):04}", **changes}

    for like in random.sample(sound, BUSINESS_DUPLICATES):
        expenses.append(new(like, reportId=f"{like['reportId']}-B"))
    for index, like in enumerate(random.sample(sound, CLOSED_PERIOD_EXPENSES)):
        expenses.append(new(like, transactionDate=CLOSED_DAYS[index % 3].isoformat()))
    for fault in UNREADABLE_EXPENSES:
        expenses.append(new(random.choice(sound), **fault))


def _working_days() -> Iterator[date]:
    for offset in range((LAST_DAY - FIRST_DAY).days + 1):
        day = FIRST_DAY + timedelta(days=offset)
        if day.weekday() < 5:
            yield day
