"""A kind of target of our own: shelves in the memory of this process, as a system that anybody may reach would be."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar

import msgspec
import pytest

from connectors.catalogue import KINDS
from connectors.http.client import Gate
from connectors.http.outcome import LoginFailed, Unreachable
from connectors.http.secrets import Secret
from connectors.kinds import Kind
from contracts.channels import Enriched, Receipt, TargetDocument
from contracts.money import Money
from pipeline.ports import Capabilities, Found, Total
from pipeline.stage import Context

SESAME = "open sesame"


class Waits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group of options.

    Attributes:
      total_ms: for a call.
    """

    total_ms: int = 1_000


class ShelfConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A shelf that documents are put on.

    Attributes:
      place: where it stands, room and number: what is
        said here goes on for a line.
      key: to the room.
      width: documents side by side.
    """

    place: str
    key: Secret
    name: str = "shelf"
    width: Annotated[int, msgspec.Meta(ge=1, le=20)] = 10
    colours: tuple[str, ...] = ()
    locked: bool = False
    waits: Waits = Waits()

    def __post_init__(self) -> None:
        if self.width == 13:
            raise ValueError("width = 13: nobody puts anything there")


class Shelf:
    """`pipeline.ports.Target`. What stands in a room is there for whoever opens a shelf in it, so it is the class's.

    `away`: rooms that nobody gets to now; `drafts`: rooms where somebody has to post what is there; `opened`: every
    shelf there was.
    """

    rooms: ClassVar[dict[str, dict[str, TargetDocument]]] = defaultdict(dict)
    away: ClassVar[set[str]] = set()
    drafts: ClassVar[set[str]] = set()
    opened: ClassVar[list["Shelf"]] = []

    def __init__(self, config: ShelfConfig, gate: Gate) -> None:
        if config.place == "nowhere":
            raise RuntimeError("a defect of the connector")
        self.config, self.name, self.closed, self._gate = config, config.name, False, gate
        self.capabilities = Capabilities(unique_reference=True, totals=True, lacks={"reverse": "it stays where it is"})
        self.opened.append(self)

    async def post(self, document: TargetDocument) -> Receipt:
        async with self._gate():
            self._enter()[document.reference] = document
        return self._receipt(document.reference)

    async def find(self, reference: str) -> Found | None:
        async with self._gate():
            document = self._enter().get(reference)
        if document is None:
            return None
        fields: dict[str, Any] = msgspec.json.decode(document.body)
        return Found(reference=reference, receipt=self._receipt(reference), amount=document.amount, fields=fields)

    async def totals(self) -> Sequence[Total]:
        async with self._gate():
            held = list(self._enter().values())
        sums: dict[tuple[str, str], list[int]] = defaultdict(list)
        for document in held:
            sums[document.reference.split("/")[1], document.amount.currency].append(document.amount.minor())
        return [
            Total(document_type=kind, amount=Money.of_minor(sum(minor), currency), count=len(minor))
            for (kind, currency), minor in sums.items()
        ]

    async def close(self) -> None:
        self.closed = True

    def _enter(self) -> dict[str, TargetDocument]:
        if self.closed:
            raise RuntimeError("it was closed while somebody was about to call it")
        if self.config.place in self.away:
            raise Unreachable(f"nobody gets to {self.config.place}")
        if self.config.key.reveal() != SESAME:
            raise LoginFailed(f"{self.name}: this key does not fit")
        return self.rooms[self.config.place]

    def _receipt(self, reference: str) -> Receipt:
        state = "submitted" if self.config.place in self.drafts else "posted"
        return Receipt(target_id=f"shelf:{reference}", state=state, at=datetime.now(UTC))


class ShelfTranslator:
    """`pipeline.ports.Translator`: everything is put there as it is."""

    def __init__(self, name: str) -> None:
        self._name = name

    def translate(self, enriched: Enriched, reference: str, context: Context) -> TargetDocument:
        return TargetDocument(
            target=self._name,
            kind="thing",
            reference=reference,
            date=context.today,
            legal_entity=enriched.attribution.legal_entity,
            amount=enriched.attribution.amount,
            body=msgspec.Raw(msgspec.json.encode(enriched.document)),
        )


SHELF = Kind(
    name="shelf",
    summary="a shelf in a room",
    options=ShelfConfig,
    open=Shelf,
    translator=ShelfTranslator,
)


@pytest.fixture
def shelves(monkeypatch: pytest.MonkeyPatch) -> type[Shelf]:
    """Shelves are among the kinds there are, and all of them are empty."""
    monkeypatch.setitem(KINDS, "shelf", "tests.shelf:SHELF")
    Shelf.rooms.clear()
    Shelf.away.clear()
    Shelf.drafts.clear()
    Shelf.opened.clear()
    return Shelf
