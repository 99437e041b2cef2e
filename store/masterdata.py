"""Master data as a target: customers, projects, workers and rate cards end in the reference data of the stages."""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from sqlalchemy import func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts.channels import Receipt, TargetDocument
from contracts.money import NOTHING
from pipeline.codes import TARGET_REFUSED
from pipeline.errors import PermanentError
from pipeline.ports import Capabilities, Found, Total
from pipeline.states import POSTED
from store.database import Database
from store.group_commit import GroupCommit
from store.reference import next_version
from store.statements import chunks
from store.tables import deliveries, masters, records

TARGET = "masterdata"
documents_per_transaction_max = 500


class _Identified(msgspec.Struct):
    id: str


_identified = msgspec.json.Decoder(_Identified)


def canonical_id(document: TargetDocument) -> str:
    """The canonical id of a master document: what other records refer to it by.

    Raises:
      PermanentError: TARGET_REFUSED, it has none.
    """
    try:
        return _identified.decode(document.body).id
    except msgspec.DecodeError as error:
        raise PermanentError(TARGET_REFUSED, f"masterdata: {document.reference}: {error}") from None


class MasterData:
    """`pipeline.ports.Target` over the `masters` table. `TargetDocument.body` is the encoded canonical document."""

    name = TARGET
    capabilities = Capabilities(
        bulk_max=documents_per_transaction_max,
        unique_reference=True,
        totals=True,
        lacks={"reverse": "a master record has one current version, which its next revision overwrites"},
    )

    def __init__(self, db: Database) -> None:
        self._db = db
        self._commits: GroupCommit[TargetDocument, Receipt] = GroupCommit(
            db, self._write, rows_max=documents_per_transaction_max
        )

    async def post(self, document: TargetDocument) -> Receipt:
        """Store the document unless a newer revision is there. Posts of the same moment share a transaction.

        Raises:
          TransientError: the database failed; nothing was stored, or storing it again changes nothing.
          PermanentError: TARGET_REFUSED, the document has no id.
        """
        canonical_id(document)
        return await self._commits.submit(document)

    async def find(self, reference: str) -> Found | None:
        """The document that was stored under our reference; None when another revision has taken its place."""
        statement = select(masters).where(masters.c.reference == reference)
        async with self._db.connect() as connection:
            row = (await connection.execute(statement)).mappings().one_or_none()
        if row is None:
            return None
        return Found(
            reference=reference,
            receipt=_receipt(row["document_type"], row["canonical_id"]),
            amount=NOTHING,
            fields=msgspec.json.decode(row["document"]),
        )

    async def totals(self) -> Sequence[Total]:
        """How many of each document type there are; master data is worth nothing by itself."""
        statement = select(masters.c.document_type, func.count()).group_by(masters.c.document_type)
        async with self._db.connect() as connection:
            return [
                Total(document_type=document_type, amount=NOTHING, count=count)
                for document_type, count in await connection.execute(statement)
            ]

    async def close(self) -> None:
        """Finish what was taken on."""
        await self._commits.close()

    async def _write(self, connection: AsyncConnection, group: Sequence[TargetDocument]) -> list[Receipt]:
        # Taken first: it is the lock that makes reading what is there and overwriting it one step.
        version = await next_version(connection)
        orders = await _orders_of(connection, [document.reference for document in group])
        places = [(document.kind, canonical_id(document)) for document in group]
        standing = await _standing_at(connection, places)
        fresh: dict[tuple[str, str], TargetDocument] = {}
        for place, document in zip(places, group, strict=True):
            # A reference without a record (no order) is not older than anything: whoever sends it means it.
            order = orders.get(document.reference, standing.get(place, ""))
            if order >= standing.get(place, ""):
                standing[place], fresh[place] = order, document
        if fresh:
            statement = self._db.insert(masters)
            changed = ("reference", "revision_order", "document", "version")
            await connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["document_type", "canonical_id"],
                    set_={name: statement.excluded[name] for name in changed},
                ),
                [
                    {
                        "document_type": place[0],
                        "canonical_id": place[1],
                        "reference": document.reference,
                        "revision_order": standing[place],
                        "document": bytes(document.body),
                        "version": version,
                    }
                    for place, document in fresh.items()
                ],
            )
        return [_receipt(*place) for place in places]


async def _orders_of(connection: AsyncConnection, references: Sequence[str]) -> dict[str, str]:
    """The revision order of the records behind these posting keys."""
    rows = await connection.execute(
        select(deliveries.c.posting_key, records.c.revision_order)
        .join(records, records.c.id == deliveries.c.record_id)
        .where(deliveries.c.posting_key.in_(references))
    )
    return {row.posting_key: row.revision_order for row in rows}


async def _standing_at(connection: AsyncConnection, places: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The revision order of what is stored at these places."""
    found: dict[tuple[str, str], str] = {}
    for some in chunks(places):
        rows = await connection.execute(
            select(masters.c.document_type, masters.c.canonical_id, masters.c.revision_order).where(
                tuple_(masters.c.document_type, masters.c.canonical_id).in_(some)
            )
        )
        found |= {(document_type, name): order for document_type, name, order in rows}
    return found


def _receipt(document_type: str, name: str) -> Receipt:
    return Receipt(target_id=f"{document_type}:{name}"[:200], state=POSTED, at=datetime.now(UTC))
