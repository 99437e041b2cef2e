"""Message translator: canonical documents become Tryton's, under our own keys. Pure.

The ids of Tryton are found by the target: they are not the same in another database, and may not be there yet.
"""

from collections.abc import Callable
from datetime import date
from typing import Any

import msgspec

from connectors.tryton.mapping_expenses import expense_document
from connectors.tryton.mapping_masters import master_document
from connectors.tryton.markers import one_line
from connectors.tryton.timesheet import TIMESHEET_LINE, TimesheetLine
from contracts.base import Contract
from contracts.channels import Enriched, TargetDocument
from contracts.customer import Customer
from contracts.expense import Expense
from contracts.money import Money
from contracts.project import Project
from contracts.time_entry import TimeEntry
from contracts.worker import Worker
from pipeline.codes import MISSING_ATTRIBUTE, TARGET_REFUSED
from pipeline.errors import PermanentError
from pipeline.stage import Context

_encoder = msgspec.json.Encoder()


class Translated(msgspec.Struct, frozen=True, kw_only=True):
    """What is particular to a kind of document."""

    kind: str
    date: date
    amount: Money
    body: msgspec.Struct


def time_entry(enriched: Enriched, context: Context) -> Translated:
    """A timesheet line of the attribution's worker and project. Raises PermanentError: it names none."""
    entry, attribution = enriched.document, enriched.attribution
    assert isinstance(entry, TimeEntry)
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
    return Translated(kind=TIMESHEET_LINE, date=entry.date, amount=attribution.amount.rounded(), body=body)


#: By type of document. Each raises PermanentError or MappingMissing where Tryton could not take it.
TRANSLATIONS: dict[type[Contract], Callable[[Enriched, Context], Translated]] = {TimeEntry: time_entry}


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
        translation = TRANSLATIONS.get(type(enriched.document))
        if translation is None:
            message = f"{self._name}: {type(enriched.document).__name__} is not taken: correct [[routing]] in the rules"
            raise PermanentError(TARGET_REFUSED, message)
        translated = translation(enriched, context)
        return TargetDocument(
            target=self._name,
            kind=translated.kind,
            reference=reference,
            date=translated.date,
            legal_entity=enriched.attribution.legal_entity,
            amount=translated.amount,
            body=msgspec.Raw(_encoder.encode(translated.body)),
        )
