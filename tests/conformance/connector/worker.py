"""A worker of the post stage alone: the stage itself, the ledger's postings of a real database, and one target."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import update

from actors.post import post
from contracts.channels import Posted, TargetDocument
from contracts.envelope import Item
from pipeline.errors import TransientError
from pipeline.outcome import Duplicate, Superseded
from pipeline.ports import Target
from store.database import Database
from store.intake import record_id
from store.outbox import Outbox, OutboxRow
from store.postings import StorePostings
from store.tables import deliveries
from tests.conformance.store.ledger_cases import accept
from tests.unit.actors.builders import a_context

#: More often nothing is tried: whoever is disturbed so often has another fault.
attempts_max = 60


async def accept_documents(database: Database, documents: Sequence[TargetDocument]) -> None:
    """Our ledger accepts the records that the documents are made of; none may be posted before."""
    for document in documents:
        _, document_type, _, subject, revision = document.reference.split("/")
        keys = {"subject": subject, "revision": revision, "document_type": document_type}
        await accept(database, record_of(document), **keys, money=document.amount)


class Worker:
    """Posts documents as a worker of ours does, but that what it waits for on the broker comes at once."""

    def __init__(self, database: Database, target: Target) -> None:
        self.target = target
        self._database = database
        self._postings = StorePostings(
            database, Outbox(database), worker="conformance", rows_max=500, on_outbox=self._nobody_waits
        )

    async def post(self, document: TargetDocument) -> Posted | Duplicate | Superseded:
        """One attempt. Raises what the stage raises."""
        item = Item(id=record_of(document), subject="s", revision="1", correlationid="c", body=msgspec.Raw(b"{}"))
        context = a_context(item=item, targets={document.target: self.target}, postings=self._postings)
        return await post(document, context)

    async def settle(self, document: TargetDocument) -> Posted | Duplicate | Superseded:
        """As many attempts as it takes, the waits between them being over at once.

        Raises:
          PermanentError: refused for good.
        """
        for _ in range(attempts_max - 1):
            try:
                return await self.post(document)
            except TransientError:
                await self.lapse(document)
        return await self.post(document)

    async def lapse(self, document: TargetDocument) -> None:
        """Time goes by until nobody's call can be under way any more."""
        async with self._database.begin() as connection:
            ours = deliveries.c.posting_key == document.reference
            await connection.execute(update(deliveries).where(ours).values(leased_until=None))

    async def close(self) -> None:
        await self._postings.close()
        await self.target.close()

    @staticmethod
    def _nobody_waits(released: Sequence[OutboxRow]) -> None:
        assert not released


def record_of(document: TargetDocument) -> str:
    """The id of the record that a document is made of."""
    _, document_type, source, subject, revision = document.reference.split("/")
    return record_id(source, document_type, subject, revision)
