"""Timesheet lines: as a document asks for one, and as Tryton holds one."""

import uuid
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from connectors.tryton.handler import receipt
from connectors.tryton.lookups import Place
from connectors.tryton.markers import TimeMark, duration_of, hours_of, one_line, subject_of, time_mark_in
from contracts.channels import Receipt, TargetDocument
from contracts.money import NOTHING
from pipeline.ports import Found

TIMESHEET_LINE, MODEL = "timesheet_line", "timesheet.line"

#: Of what makes `timesheet.line.uuid`. Never to be changed: what is in Tryton would not be known again.
NAMESPACE = uuid.UUID("6f1c2f5e-6d0b-5c1e-9a52-3b1f0c9d7a41")

#: What a line says, and what it is known by.
CONTENT = ("employee", "work", "date", "duration", "description", "uuid")
FIELDS = (*CONTENT, "_timestamp", "write_date", "create_date")
#: Only with the module `project_invoice`: the line of an invoice that bills it.
INVOICED = "invoice_line"


class TimesheetLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The body of a `timesheet_line`: our own keys, never Tryton's ids; hours of `worker` on that day."""

    worker: str
    project: str
    date: date
    hours: Decimal
    task: str | None = None
    note: str = ""

    @property
    def place(self) -> Place:
        return Place(self.project, self.task)


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A document on its way to Tryton. `employee`, `work` (a `timesheet.work`) and `project_work` are Tryton's ids."""

    document: TargetDocument
    body: TimesheetLine
    employee: int
    work: int
    project_work: int

    @property
    def reference(self) -> str:
        return self.document.reference

    @property
    def subject(self) -> str:
        return subject_of(self.document.reference)

    @property
    def ids(self) -> tuple[int, int, int]:
        """What was looked up for it."""
        return self.employee, self.work, self.project_work

    @property
    def mark(self) -> TimeMark:
        return TimeMark(
            reference=self.reference, amount=self.document.amount, hours=self.body.hours, worker=self.body.worker
        )

    def values(self) -> dict[str, Any]:
        """What is written, without the work and without the key."""
        return {
            "employee": self.employee,
            "date": self.body.date,
            "duration": duration_of(self.body.hours),
            "description": self.mark.described(self.body.note),
        }


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A line in Tryton. `mark` is None where people have removed it; `stamp` changes with every write."""

    id: int
    employee: int
    work: int
    date: date
    duration: timedelta
    note: str
    mark: TimeMark | None
    key: str | None
    invoice_line: int | None
    stamp: str
    at: datetime

    @property
    def receipt(self) -> Receipt:
        return receipt(MODEL, self.id, at=self.at)

    def says(self, line: Line) -> bool:
        """Whether it holds what the document asks for."""
        ours = (line.employee, line.work, line.body.date, duration_of(line.body.hours), one_line(line.body.note))
        return (self.employee, self.work, self.date, self.duration, self.note) == ours and self.mark == line.mark

    def found(self, reference: str, place: Place | None, worker: str | None) -> Found:
        """What Tryton holds, in our keys; worth nothing where its mark is gone."""
        mark = self.mark
        return Found(
            reference=reference,
            receipt=self.receipt,
            amount=mark.worth(self.duration) if mark else NOTHING,
            fields={
                "worker": worker,
                "project": place.project if place else None,
                "task": place.task if place else None,
                "date": self.date.isoformat(),
                "hours": f"{mark.hours_held(self.duration) if mark else hours_of(self.duration):f}",
                "note": self.note,
            },
        )


def key_of(subject: str) -> str:
    """The `uuid` of a line: the same for a document and its corrections, so that a late call can't bring one back."""
    return str(uuid.uuid5(NAMESPACE, subject))


def held_of(record: Mapping[str, Any], at: datetime | None = None) -> Held:
    """A record that was read with `FIELDS`; or with `CONTENT` alone, to look at and not to write, posted `at`."""
    note, mark = time_mark_in(record["description"] or "")
    return Held(
        id=record["id"],
        employee=record["employee"],
        work=record["work"],
        date=record["date"],
        duration=record["duration"],
        note=note,
        mark=mark,
        key=record["uuid"],
        invoice_line=record.get(INVOICED),
        stamp=record.get("_timestamp", ""),
        at=at or record["write_date"] or record["create_date"],
    )
