"""Our marks in Tryton's texts, for what it has no field of its own for (or none that a client may set).

The comment of a project or task has a line `[tieout KEY]` (not its name, which Tryton prints on invoices). The
description of a timesheet line ends in `[tieout REFERENCE 1125.00 EUR 7.5 h by WORKER]`: what it is in our books, what
it is worth and for how many hours. A line has no money of its own in Tryton, so whoever changes the hours there changes
the money that we compare.
"""

import re
from datetime import timedelta
from decimal import Decimal
from urllib.parse import unquote

import msgspec

from contracts.money import Money

MARK = "[tieout "
text_length_max = 200

_KEYED = re.compile(r"\[tieout (\S+)\]")
_TIME = re.compile(r"\[tieout (\S+) (-?\d+(?:\.\d+)?) ([A-Z]{3}) (\d+(?:\.\d+)?) h by (\S+)\]")
_LENGTHS = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})\.([0-9]{1,9})")
_UNSAFE = re.compile(r"[%\[\]\\\s]")
_SAFE = re.compile(r"[!-$&-Z^-~]*")


def escaped(key: str) -> str:
    """A key without blanks, brackets, backslashes and what can't be seen or stored, as `%20`; `unquote` undoes it."""
    if _SAFE.fullmatch(key):
        return key
    signs = (sign if sign.isprintable() and not _UNSAFE.match(sign) else _percent(sign) for sign in key)
    return "".join(signs)


def one_line(text: str) -> str:
    """Without control characters and marks, cut to what a list shows."""
    seen = "".join(sign if sign.isprintable() else " " for sign in text.replace(MARK, ""))
    return " ".join(seen.split())[:text_length_max].strip()


def key_line(key: str) -> str:
    """A line of a comment that tells our key."""
    return f"{MARK}{escaped(key)}]"


def key_in(comment: str) -> str | None:
    """Our key in a comment; None where there is none."""
    found = _KEYED.findall(comment)
    return unquote(found[-1]) if found else None


def key_search(key: str) -> str:
    """A pattern of comments with this key, for `like`; it finds a few too many, so `key_in` decides."""
    return f"%{MARK}{escaped(key)}]%"


class TimeMark(msgspec.Struct, frozen=True, kw_only=True):
    """The mark of a timesheet line: `amount` is what `hours` of `worker` are worth."""

    reference: str
    amount: Money
    hours: Decimal
    worker: str

    @property
    def subject(self) -> str:
        return subject_of(self.reference)

    def described(self, note: str) -> str:
        """The description of the line."""
        money = f"{self.amount.amount:f} {self.amount.currency}"
        mark = f"{MARK}{escaped(self.reference)} {money} {self.hours:f} h by {escaped(self.worker)}]"
        return f"{one_line(note)} {mark}".strip()

    def worth(self, held: timedelta) -> Money:
        """What as many hours as Tryton holds are worth: the amount itself where nobody has changed them."""
        if held == duration_of(self.hours):
            return self.amount
        return Money(amount=self.amount.amount * hours_of(held) / self.hours, currency=self.amount.currency).rounded()

    def hours_held(self, held: timedelta) -> Decimal:
        """The hours that Tryton holds, written as they were sent where nobody has changed them."""
        return self.hours if held == duration_of(self.hours) else hours_of(held)


def time_mark_in(description: str) -> tuple[str, TimeMark | None]:
    """The note and the mark of a description; people may have written around it."""
    found = list(_TIME.finditer(description))
    if not found:
        return " ".join(description.split()), None
    reference, amount, currency, hours, worker = found[-1].groups()
    note = description[: found[-1].start()] + " " + description[found[-1].end() :]
    mark = TimeMark(
        reference=unquote(reference),
        amount=Money(amount=Decimal(amount), currency=currency),
        hours=Decimal(hours),
        worker=unquote(worker),
    )
    return " ".join(note.split()), mark


def reference_search(beginning: str) -> str:
    """A pattern of descriptions whose reference begins so, for `like`; it finds too many: `time_mark_in` decides."""
    return f"%{MARK}{escaped(beginning)}%"


def subject_of(reference: str) -> str:
    """What is the same in the posting keys of a document and of its corrections: all but the revision.

    See `pipeline.ports.posting_key`: where ids have slashes, their lengths stand at the end and tell them apart.
    """
    if reference.count("/") <= 4:
        return reference.rpartition("/")[0]
    ids, _, lengths = reference.rpartition("/")
    found = _LENGTHS.fullmatch(lengths)
    if found is None or int(found[3]) >= len(ids):
        return ids
    ids = ids[: -int(found[3]) - 1]
    return ids if ids.count("/") == 3 else f"{ids}/{found[1]}.{found[2]}"


def beginning_of(subject: str) -> str:
    """What every posting key of a subject begins with."""
    return f"{subject}/" if subject.count("/") <= 3 else f"{subject.rpartition('/')[0]}/"


def duration_of(hours: Decimal) -> timedelta:
    """To the microsecond, which is what Tryton keeps."""
    return timedelta(microseconds=int((hours * 3_600_000_000).to_integral_value()))


def hours_of(duration: timedelta) -> Decimal:
    """To twelve decimals of an hour, finer than a microsecond."""
    hours = Decimal(duration // timedelta(microseconds=1)) / 3_600_000_000
    return Decimal(f"{hours.quantize(Decimal('1e-12')).normalize():f}")


def _percent(sign: str) -> str:
    return "".join(f"%{byte:02X}" for byte in sign.encode("utf-8", "surrogatepass"))
