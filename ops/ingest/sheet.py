"""What came of an ingest, in count and in money."""

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from contracts.money import NO_CURRENCY, Money

ACCEPTED, SEEN_BEFORE, REJECTED = "accepted", "seen_before", "rejected"


class Sheet(msgspec.Struct, kw_only=True):
    """Counts and amounts: rows = filtered + read, read = accepted + seen_before + rejected.

    `amounts` holds, per currency, minor units (cents) under the same words. In a dry run `accepted` means: would be.
    """

    rows: int = 0
    filtered: int = 0
    read: int = 0
    accepted: int = 0
    seen_before: int = 0
    rejected: int = 0
    minor: dict[str, dict[str, int]] = {}

    def count(self, word: str, amounts: Iterable[Money]) -> None:
        """Add records (or rejects) under one of the three words."""
        for money in amounts:
            setattr(self, word, getattr(self, word) + 1)
            if money.currency != NO_CURRENCY:
                row = self.minor.setdefault(money.currency, {})
                row[word] = row.get(word, 0) + money.minor()

    def add(self, other: "Sheet") -> None:
        for name in ("rows", "filtered", "read", ACCEPTED, SEEN_BEFORE, REJECTED):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for currency, amounts in other.minor.items():
            row = self.minor.setdefault(currency, {})
            for word, amount in amounts.items():
                row[word] = row.get(word, 0) + amount

    @property
    def amounts(self) -> dict[str, dict[str, Decimal]]:
        """Per currency: what was read, accepted, seen before and rejected (as far as rejected rows could be read)."""
        return {
            currency: {
                "read": Money.of_minor(sum(row.values()), currency).amount,
                **{
                    word: Money.of_minor(row.get(word, 0), currency).amount
                    for word in (ACCEPTED, SEEN_BEFORE, REJECTED)
                },
            }
            for currency, row in sorted(self.minor.items())
        }


#: Refused rows that a summary shows; all of them are in the rejects file.
refusals_shown_max = 5


class Refusal(msgspec.Struct, frozen=True):
    """A refused row, by its number in its file."""

    path: str
    row: int
    column: str | None
    reason: str


class FileSummary(msgspec.Struct, kw_only=True):
    """One file. `error` says why it could not be read to its end; what could be read has been accepted.

    `refusals` holds the first refused rows.
    """

    path: str
    sheet: Sheet = msgspec.field(default_factory=Sheet)
    run_id: str | None = None
    error: str | None = None
    refusals: list[Refusal] = []


class Summary(msgspec.Struct, kw_only=True):
    """All files of one `tieout ingest`. `owed` messages wait in the outbox because the broker could not be reached."""

    files: list[FileSummary] = []
    dry_run: bool = False
    seconds: float = 0.0
    owed: int = 0
    owed_because: str | None = None

    @property
    def sheet(self) -> Sheet:
        total = Sheet()
        for file in self.files:
            total.add(file.sheet)
        return total

    @property
    def errors(self) -> list[str]:
        """One line per file that could not be read to its end."""
        return [file.error for file in self.files if file.error is not None]

    @property
    def refusals(self) -> list[Refusal]:
        """The first refused rows of all files."""
        return [refusal for file in self.files for refusal in file.refusals][:refusals_shown_max]

    @property
    def holds(self) -> bool:
        """Every file was read to its end, and not everything that was wanted from them was refused."""
        sheet = self.sheet
        return not self.errors and not (sheet.read and sheet.read == sheet.rejected)

    def as_dict(self) -> dict[str, object]:
        """For `--json`: the totals at the top, then per file. Amounts are decimal strings."""
        return {
            **_counted(self.sheet),
            "dry_run": self.dry_run,
            "seconds": round(self.seconds, 3),
            "owed": self.owed,
            "errors": self.errors,
            "refusals": [msgspec.structs.asdict(refusal) for refusal in self.refusals],
            "files": [
                {"path": file.path, "run_id": file.run_id, "error": file.error, **_counted(file.sheet)}
                for file in self.files
            ],
        }


def _counted(sheet: Sheet) -> dict[str, object]:
    counts = {name: getattr(sheet, name) for name in ("rows", "filtered", "read", ACCEPTED, SEEN_BEFORE, REJECTED)}
    amounts = {
        currency: {word: f"{amount:f}" for word, amount in row.items()} for currency, row in sheet.amounts.items()
    }
    return {**counts, "amounts": amounts}
