"""Customers: parties. Never taken back, since other records refer to them: a person deactivates them in Tryton."""

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar

from connectors.tryton.handler import Outcome, body_of, receipt, refused
from connectors.tryton.lookups import Lookups
from connectors.tryton.mapping_masters import PARTY as KIND
from connectors.tryton.mapping_masters import PartyBody, document_type_of
from connectors.tryton.parties import CUSTOMER, PARTY, Parties, Party, Wanted
from connectors.tryton.rpc import Rpc
from contracts.channels import Receipt, TargetDocument
from contracts.customer import Customer
from contracts.money import NOTHING
from pipeline.codes import TARGET_REFERENCE_MISSING
from pipeline.errors import PermanentError
from pipeline.ports import Found, Total

Body = TypeVar("Body")


class Customers:
    """`handler.Handler` for parties."""

    kind = KIND
    document_type = document_type_of(Customer)
    bulk_max = 100
    find_max = 200

    def __init__(self, rpc: Rpc, lookups: Lookups) -> None:
        self._rpc = rpc
        self._parties = Parties(rpc, CUSTOMER)
        self._beginning = f"{rpc.config.name}/{self.document_type}/"

    async def post_bulk(self, documents: Sequence[TargetDocument]) -> list[Outcome]:
        outcomes: dict[int, Outcome] = {}
        bodies = bodies_of(documents, PartyBody, outcomes)
        terms = await self._terms({body.payment_term for body in bodies.values() if body.payment_term})
        for wave in waves({place: body.customer for place, body in bodies.items()}):
            wanted = {}
            for place in wave:
                body = bodies[place]
                if body.payment_term and body.payment_term not in terms:
                    message = f"Tryton has no payment term {body.payment_term!r}: correct the payment_term mapping"
                    outcomes[place] = PermanentError(TARGET_REFERENCE_MISSING, message)
                    continue
                wanted[place] = Wanted(
                    key=body.customer,
                    reference=documents[place].reference,
                    name=body.name,
                    email=body.email,
                    payment_term=terms.get(body.payment_term or ""),
                    payment_term_name=body.payment_term,
                )
            put = await self._parties.put(list(wanted.values()))
            outcomes |= {place: put[one.key] for place, one in wanted.items()}
        return [outcomes[place] for place in range(len(documents))]

    async def find_bulk(self, references: Sequence[str]) -> list[Found | None]:
        held = await self._parties.with_references(references)
        return [found_of(held[reference]) if reference in held else None for reference in references]

    async def totals(self) -> list[Total]:
        return counted(self.document_type, await self._parties.count(self._beginning))

    async def reverse(self, reference: str, reason: str) -> Receipt:
        raise stays(reference)

    async def since(self, moment: datetime) -> AsyncIterator[Found]:
        for party in await self._parties.written_since(moment, self._beginning):
            yield found_of(party)

    async def _terms(self, names: set[str]) -> dict[str, int]:
        if not names:
            return {}
        domain = [["name", "in", sorted(names)]]
        listed = self._rpc.listed("account.invoice.payment_term", domain, ["name"])
        return {one["name"]: one["id"] async for one in listed}


def found_of(party: Party) -> Found:
    return Found(
        reference=party.reference or "",
        receipt=receipt(PARTY, party.id, at=party.written),
        amount=NOTHING,
        fields={
            "customer": party.called(CUSTOMER, None),
            "name": party.name,
            "email": party.email[1] if party.email else None,
            "payment_term": party.payment_term,
        },
    )


# What the handlers of all master data share


def bodies_of(documents: Sequence[TargetDocument], shape: type[Body], outcomes: dict[int, Outcome]) -> dict[int, Body]:
    """The bodies by position; those that can't be read are refused in `outcomes`."""
    bodies: dict[int, Body] = {}
    for place, document in enumerate(documents):
        try:
            bodies[place] = body_of(document, shape)
        except PermanentError as error:
            outcomes[place] = error
    return bodies


def waves(keys: dict[int, Any]) -> Iterator[list[int]]:
    """Positions in order, in lists that have no key twice: one record's revisions are written one after the other."""
    left = list(keys)
    while left:
        first = {keys[place]: place for place in reversed(left)}
        wave = sorted(first.values())
        yield wave
        left = [place for place in left if place not in set(wave)]


def counted(document_type: str, count: int) -> list[Total]:
    return [Total(document_type=document_type, amount=NOTHING, count=count)] if count else []


def stays(reference: str) -> PermanentError:
    return refused(f"{reference} is master data, which other records refer to: deactivate it in Tryton instead")
