"""The catalogue of failure codes: what each means, who owns it, and what to do about it."""

import msgspec

from contracts.failure import BUSINESS, TECHNICAL

FINANCE, PMO, HR, IT = "finance", "pmo", "hr", "it"
ROLES = (FINANCE, PMO, HR, IT)


class Code(msgspec.Struct, frozen=True):
    """One cause of failure. `guidance` is one sentence that tells the owner what to do next."""

    name: str
    category: str
    owner: str
    summary: str
    guidance: str


CATALOGUE: dict[str, Code] = {}


def _code(name: str, category: str, owner: str, summary: str, guidance: str) -> Code:
    code = CATALOGUE[name] = Code(name, category, owner, summary, guidance)
    return code


INVALID_DOCUMENT = _code(
    "INVALID_DOCUMENT",
    BUSINESS,
    IT,
    "The record does not fit its contract.",
    "Compare the named field with `tieout contracts show`, mend the source or `tieout dead edit`, then requeue.",
)
NOT_OWNER = _code(
    "NOT_OWNER",
    BUSINESS,
    IT,
    "This source is not the system of record for the document type.",
    "Send it from the owning system, or name this source under [[ownership]] in the rules.",
)
MISSING_ATTRIBUTE = _code(
    "MISSING_ATTRIBUTE",
    BUSINESS,
    PMO,
    "A required attribute is empty.",
    "Fill the attribute in the source system and send a new revision, or `tieout dead edit` and requeue.",
)
NOT_APPROVED = _code(
    "NOT_APPROVED",
    BUSINESS,
    PMO,
    "The record is not in an approved state.",
    "Have it approved in the source system; the approved revision comes through by itself.",
)
HOURS_OUT_OF_RANGE = _code(
    "HOURS_OUT_OF_RANGE",
    BUSINESS,
    PMO,
    "The hours of one entry are not above 0 and at most 24.",
    "Correct the hours in the source system and send a new revision.",
)
DAY_OVERBOOKED = _code(
    "DAY_OVERBOOKED",
    BUSINESS,
    PMO,
    "The worker's hours on this day add up to more than the day has.",
    "Look at the worker's other entries of that day (`tieout trace`), correct one in the source, requeue the rest.",
)
AMOUNT_NOT_POSITIVE = _code(
    "AMOUNT_NOT_POSITIVE",
    BUSINESS,
    FINANCE,
    "The amount is zero or negative.",
    "Discard it when there is nothing to post, or correct the amount in the source system.",
)
AMOUNT_TOO_FINE = _code(
    "AMOUNT_TOO_FINE",
    BUSINESS,
    FINANCE,
    "The amount has more decimals than its currency.",
    "Round it in the source system, or with `scale` in the mapping file, and ingest it again.",
)
RATE_NEGATIVE = _code(
    "RATE_NEGATIVE",
    BUSINESS,
    PMO,
    "A rate is negative.",
    "Correct the rate in its system of record and send a new revision.",
)
UNKNOWN_CURRENCY = _code(
    "UNKNOWN_CURRENCY",
    BUSINESS,
    FINANCE,
    "The currency is not in ISO 4217.",
    "Correct the currency in the source system, or map it with `values` in the mapping file.",
)
DATE_IN_FUTURE = _code(
    "DATE_IN_FUTURE",
    BUSINESS,
    PMO,
    "The date lies further ahead than the tolerance allows.",
    "Correct the date, or wait until it is due and requeue.",
)
PERIOD_CLOSED = _code(
    "PERIOD_CLOSED",
    BUSINESS,
    FINANCE,
    "The accounting period of the date is closed.",
    "Reopen the period (`tieout period open`), or move the date with `tieout dead edit`, then requeue.",
)
MAPPING_MISSING = _code(
    "MAPPING_MISSING",
    BUSINESS,
    FINANCE,
    "The cross-reference has no entry for this value.",
    "Add it with `tieout map set`, then `tieout dead requeue --code MAPPING_MISSING`.",
)
RATE_MISSING = _code(
    "RATE_MISSING",
    BUSINESS,
    PMO,
    "No rate is in force for this worker, project and date.",
    "Extend or add the rate card in its system of record, ingest it, then requeue.",
)
EXCHANGE_RATE_MISSING = _code(
    "EXCHANGE_RATE_MISSING",
    BUSINESS,
    FINANCE,
    "No exchange rate is in force for this currency and date.",
    "Add it with `tieout map set exchange_rate FROM/TO RATE --from DATE`, then requeue.",
)
WORKER_INACTIVE = _code(
    "WORKER_INACTIVE",
    BUSINESS,
    HR,
    "The worker was not employed on this date.",
    "Check the hire and leave dates in HR; a corrected worker record makes the requeue pass.",
)
PROJECT_CLOSED = _code(
    "PROJECT_CLOSED",
    BUSINESS,
    PMO,
    "The project is not open on this date.",
    "Extend the project in its system of record, or move the entry to another one, then requeue.",
)
UNKNOWN_LEGAL_ENTITY = _code(
    "UNKNOWN_LEGAL_ENTITY",
    BUSINESS,
    FINANCE,
    "The legal entity is not defined in the rules.",
    "Add it under [legal_entities] in the rules, or correct the project's legal entity.",
)
NO_ROUTE = _code(
    "NO_ROUTE",
    BUSINESS,
    IT,
    "No routing rule names a target for this record.",
    "Add a [[routing]] rule for its document type, legal entity and date, then requeue.",
)
TARGET_REFUSED = _code(
    "TARGET_REFUSED",
    BUSINESS,
    FINANCE,
    "The target refused the document.",
    "Read the target's own words in the message, mend the cause there or here, then requeue.",
)
TARGET_REFERENCE_MISSING = _code(
    "TARGET_REFERENCE_MISSING",
    BUSINESS,
    PMO,
    "The target does not know a worker, project, task or customer that the document names.",
    "Send that record to the target too (route it there, ingest it again) or map the id with `tieout map set`;"
    " then requeue.",
)
DRIFT = _code(
    "DRIFT",
    BUSINESS,
    FINANCE,
    "What the target holds differs from what was sent.",
    "Compare both sides with `tieout trace`, correct the target, then requeue to read it again.",
)
NOT_IN_TARGET = _code(
    "NOT_IN_TARGET",
    BUSINESS,
    FINANCE,
    "The target no longer holds a document that was posted.",
    "Find out who removed it; requeue reads it again, a corrected revision posts it anew.",
)
RETRIES_EXHAUSTED = _code(
    "RETRIES_EXHAUSTED",
    TECHNICAL,
    IT,
    "A technical fault lasted longer than all retries.",
    "See `tieout doctor` and the message; requeue once the cause is mended.",
)
UNEXPECTED_ERROR = _code(
    "UNEXPECTED_ERROR",
    TECHNICAL,
    IT,
    "The stage raised an error that nobody planned for.",
    "This is a defect: report it with the message and the traceback of `tieout dead show`, requeue once mended.",
)
OUTCOME_UNKNOWN = _code(
    "OUTCOME_UNKNOWN",
    TECHNICAL,
    IT,
    "The target was called and could not be asked what became of it.",
    "Look the reference up in the target by hand; requeue asks again before anything is sent.",
)
UNDECODABLE = _code(
    "UNDECODABLE",
    TECHNICAL,
    IT,
    "The message is not one of ours: its body can't be decoded.",
    "Find the publisher by the headers; `tieout dead export` has the bytes, `tieout dead discard` ends it.",
)
POISON_MESSAGE = _code(
    "POISON_MESSAGE",
    TECHNICAL,
    IT,
    "The message was delivered again and again without an answer: it may kill its worker.",
    "Look at the worker's log of that time, mend the cause, then requeue.",
)
