"""What becomes of a time entry, by what it asks for and what Tryton holds."""

from collections.abc import Sequence

from connectors.tryton.handler import Outcome, body_of, refused
from connectors.tryton.lookups import Employee, Work
from connectors.tryton.markers import subject_of
from connectors.tryton.timesheet import Held, Line, TimesheetLine
from contracts.channels import TargetDocument
from pipeline.codes import TARGET_REFERENCE_MISSING
from pipeline.errors import OutcomeUnknown, PermanentError, TransientError


def readable(document: TargetDocument) -> TimesheetLine:
    if document.reference.count("/") < 4:
        raise refused(f"{document.reference!r} is no posting key")
    if document.replaces is not None and subject_of(document.replaces) != subject_of(document.reference):
        raise refused(f"{document.replaces!r} is no earlier revision of {document.reference!r}")
    body = body_of(document, TimesheetLine)
    if body.hours <= 0 or document.amount.amount != document.amount.rounded().amount:
        raise refused(f"{document.reference}: {body.hours} hours worth {document.amount} are not bookable")
    return body


def line_of(
    document: TargetDocument, body: TimesheetLine, employees: Sequence[Employee] | None, work: Work | None
) -> Line | PermanentError:
    if not employees:
        return _unknown(f"worker {body.worker!r}", "a party with that code, or identifier, who is an employee")
    task = f"task {body.task!r} of " if body.task else ""
    if work is None:
        return _unknown(f"{task}project {body.project!r}", "a work with that number, or key in its name")
    if work.timesheet is None:
        return _unknown(f"time on {task}project {body.project!r}", "'Available on timesheets' ticked on it")
    employed = next((one for one in employees if one.employed_on(body.date)), employees[0])
    return Line(document=document, body=body, employee=employed.id, work=work.timesheet, project_work=work.id)


def _unknown(what: str, wanted: str) -> PermanentError:
    return PermanentError(TARGET_REFERENCE_MISSING, f"tryton does not know {what}: it needs {wanted}")


def outcome_of(line: Line, firsts: dict[str, Line], outcomes: dict[str, Outcome]) -> Outcome:
    """The outcome of the first document of this subject, if this one says the same."""
    first = firsts[line.subject]
    if first.reference != line.reference:
        return TransientError(f"another revision of {line.subject} is on its way to tryton", burns_attempt=False)
    if (first.body, first.mark) != (line.body, line.mark):
        return refused(f"{line.reference!r} came twice with different content")
    return outcomes[line.subject]


def settled(line: Line, held: Held) -> Outcome:
    """The outcome of a document whose subject is there already."""
    if held.mark is None:
        return refused(
            f"timesheet line {held.id} is the one of {line.subject!r}, and somebody has removed our mark from its"
            " description: delete it, or put the mark back, then requeue"
        )
    if held.mark.reference == line.reference:
        if held.says(line):
            return held.receipt
        return refused(f"{line.reference!r} is already posted with different content (timesheet line {held.id})")
    if line.document.replaces is not None:
        return TransientError(f"tryton: {line.document.replaces!r} has become {held.mark.reference!r}: look again")
    return refused(f"timesheet line {held.id} is {held.mark.reference!r}, which {line.reference!r} does not correct")


def made_of(line: Line, held: Held | None) -> Outcome:
    if held is None:
        return OutcomeUnknown(f"tryton took {line.reference!r}, and does not show it")
    return settled(line, held)


def invoiced(held: Held) -> PermanentError:
    return refused(
        f"timesheet line {held.id} has been invoiced (invoice line {held.invoice_line}): cancel or credit that invoice"
        " in Tryton, which frees the time, and requeue; or book the difference there and discard this one"
    )
