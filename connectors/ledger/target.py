"""The embedded ledger behind the port of every target: a small double-entry sub-ledger in our own database."""

from collections.abc import Sequence

from sqlalchemy.exc import DataError, IntegrityError

from connectors.door import Door
from connectors.ledger import chart, reading
from connectors.ledger.chart import Account
from connectors.ledger.config import LedgerConfig
from connectors.ledger.database import Database, posting_to
from connectors.ledger.journal import REVERSAL_SUFFIX, refused
from connectors.ledger.periods import LedgerPeriod, first_open_day, read_periods, set_closed
from connectors.ledger.posting import Outcome, Poster
from connectors.ledger.reading import Balance, TrialBalance
from connectors.ledger.reversal import locked_entry, reverse_entry
from contracts.channels import Receipt, TargetDocument
from pipeline.codes import NOT_IN_TARGET
from pipeline.errors import PermanentError
from pipeline.ports import Capabilities, Found, Total


class EmbeddedLedger:
    """`pipeline.ports.Target`, plus what an accountant does: periods, reversals, balances."""

    def __init__(self, database: Database, config: LedgerConfig | None = None) -> None:
        self.config = config or LedgerConfig()
        self.name = self.config.name
        self.capabilities = Capabilities(
            bulk_max=self.config.bulk_max, unique_reference=True, reverse=True, totals=True
        )
        self._database = database
        self._poster = Poster(database)
        bounds = {"calls_max": self.config.calls_max, "waiting_max": self.config.waiting_max}
        self._posting: Door[TargetDocument, Receipt] = Door(self.post_bulk, bulk_max=self.config.bulk_max, **bounds)
        self._finding: Door[str, Found | None] = Door(self.find_bulk, bulk_max=self.config.find_max, **bounds)

    async def post(self, document: TargetDocument) -> Receipt:
        """Create the document, or find it created; `replaces` is reversed in the same transaction.

        Raises:
          PermanentError: TARGET_REFUSED or PERIOD_CLOSED.
          TransientError: nothing was written.
          OutcomeUnknown: ask with `find` before anything else.
        """
        return await self._posting.call(document)

    async def post_bulk(self, documents: Sequence[TargetDocument]) -> list[Outcome]:
        """One outcome per document, in order; one that the database itself refuses does not fail its neighbours."""
        try:
            return await self._poster.post(documents)
        except (DataError, IntegrityError) as error:
            if len(documents) == 1:
                return [refused(" ".join(str(error.orig).split())[:500])]
        half = len(documents) // 2
        return await self.post_bulk(documents[:half]) + await self.post_bulk(documents[half:])

    async def find(self, reference: str) -> Found | None:
        """The document as it stands in the books. Raises TransientError."""
        return await self._finding.call(reference)

    async def find_bulk(self, references: Sequence[str]) -> list[Found | None]:
        """One answer per reference, in order. Raises TransientError."""
        async with self._database.connect() as connection:
            held = await reading.held(self._database, connection, sorted(set(references)))
        found = {reference: one.found for reference, one in held.items()}
        return [found.get(reference) for reference in references]

    async def totals(self) -> list[Total]:
        """What the books hold by document type and currency, reversed entries left out. Raises TransientError."""
        async with self._database.connect() as connection:
            return await reading.totals(connection)

    async def reverse(self, reference: str, reason: str) -> Receipt:
        """Take an entry back, in its own period or the first open day after; a second call changes nothing.

        Raises:
          PermanentError: NOT_IN_TARGET, PERIOD_CLOSED (no open period), or TARGET_REFUSED (a reversal stands for good).
        """
        async with posting_to(self._database) as connection:
            entry = await locked_entry(connection, reference)
            if entry is None:
                raise PermanentError(NOT_IN_TARGET, f"ledger: no entry under {reference!r} to reverse")
            if entry["reverses"] is not None:
                raise refused(f"{reference!r} is a reversal: post the document anew instead")
            if entry["reversed_by"] is None:
                day = await first_open_day(self._database, connection, entry["legal_entity"], entry["date"])
                await reverse_entry(self._database, connection, entry, day, reason)
            reversal = reference + REVERSAL_SUFFIX
            return (await reading.held(self._database, connection, [reversal]))[reversal].receipt

    async def balances(
        self, *, account: str | None = None, legal_entity: str | None = None, period: str | None = None
    ) -> list[Balance]:
        """Debits and credits per account, legal entity and period. Raises TransientError."""
        async with self._database.connect() as connection:
            return await reading.balances(connection, account, legal_entity, period)

    async def trial_balance(self) -> list[TrialBalance]:
        """All debits and credits per legal entity and currency. Raises TransientError."""
        async with self._database.connect() as connection:
            return await reading.trial_balance(connection)

    async def irregularities(self) -> list[str]:
        """What is wrong with the books; empty when every entry balances. Raises TransientError."""
        async with self._database.connect() as connection:
            return await reading.irregular(connection)

    async def close_period(self, legal_entity: str, name: str) -> None:
        """From now on nothing is posted into the month `name` (`2026-03`) of the entity; `*` means every entity.

        Raises:
          ValueError: `name` is not a month.
        """
        async with posting_to(self._database) as connection:
            await set_closed(self._database, connection, legal_entity, name, True)

    async def open_period(self, legal_entity: str, name: str) -> None:
        """The inverse of `close_period`."""
        async with posting_to(self._database) as connection:
            await set_closed(self._database, connection, legal_entity, name, False)

    async def list_periods(self) -> list[LedgerPeriod]:
        """Every period that something was posted to or decided about. Raises TransientError."""
        async with self._database.connect() as connection:
            return await read_periods(connection)

    async def accounts(self) -> list[Account]:
        """The chart of accounts by code. Raises TransientError."""
        async with self._database.connect() as connection:
            return list((await chart.read_accounts(connection)).values())

    async def add_account(self, account: Account) -> None:
        """Add or rename an account. Raises ValueError for a type that is none of `chart.TYPES`."""
        await chart.add_account(self._database, account)

    async def close(self) -> None:
        """Return when every call taken is answered; the database is its owner's to close."""
        await self._posting.close()
        await self._finding.close()
