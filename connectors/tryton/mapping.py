"""Message translator: canonical documents become Tryton's, under our own keys. Pure.

The ids of Tryton are found by the target: they are not the same in another database, and may not be there yet.
"""

from typing import Any

import msgspec

from connectors.tryton.mapping_expenses import expense_document
from connectors.tryton.mapping_masters import master_document
from connectors.tryton.markers import one_line
from connectors.tryton.timesheet import TIMESHEET_LINE, TimesheetLine
from contracts.channels import Enriched, TargetDocument
from contracts.customer import Customer
from contracts.expense import Expense
from contracts.project import Project
from contracts.time_entry import TimeEntry
from contracts.worker import Worker
from pipeline.codes import MISSING_ATTRIBUTE, TARGET_REFUSED
from pipeline.errors import PermanentError

_encoder = msgspec.json.Encoder()


class TrytonTranslator:
    """`pipeline.ports.Translator` for a Tryton target of this name."""

    def __init__(self, name: str = "tryton") -> None:
        self._name = name

    def translate(self, enriched: Enriched, reference: str, context: Any) -> TargetDocument:
        """Tryton's document for a canonical one.

        Raises:
          PermanentError: TARGET_REFUSED for what Tryton has no place for, MISSING_ATTRIBUTE.
          MappingMissing: an expense's category has no account or tax in Tryton.
        """
        match enriched.document:
            case Customer() | Worker() | Project() as master:
                return master_document(self._name, master, enriched, reference, context)
            case Expense() as expense:
                return expense_document(self._name, expense, enriched, reference, context)
            case TimeEntry() as entry:
                return time_document(self._name, entry, enriched, reference)
            case other:
                message = f"{self._name}: {type(other).__name__} is not taken: correct [[routing]] in the rules"
                raise PermanentError(TARGET_REFUSED, message)


def time_document(target: str, entry: TimeEntry, enriched: Enriched, reference: str) -> TargetDocument:
    """A timesheet line of the attribution's worker and project. Raises PermanentError: it names none."""
    attribution = enriched.attribution
    project = attribution.project or entry.project
    if project is None:
        raise PermanentError(MISSING_ATTRIBUTE, f"time entry {entry.id!r} has no project, and Tryton books time on one")
    body = TimesheetLine(
        worker=attribution.worker or entry.worker,
        project=project,
        task=entry.task,
        date=entry.date,
        hours=entry.hours,
        note=one_line(entry.note or ""),
    )
    return TargetDocument(
        target=target,
        kind=TIMESHEET_LINE,
        reference=reference,
        date=entry.date,
        legal_entity=attribution.legal_entity,
        amount=attribution.amount.rounded(),
        body=msgspec.Raw(_encoder.encode(body)),
    )
