"""Customers and workers as Tryton's parties: how ours are told from others, made once, and kept up to date.

A party of ours has two identifiers without a type: `tieout customer C-1` says who it is, `tieout reference R` which
record of our books wrote it last. They are of the party and made with it in one transaction, people see them and don't
type them by chance, and both are found by equality. The code alone would not do: Tryton numbers its own parties, and
the party that it calls `10` is not our customer 10. So the code, which nobody can have twice, is our id only where
that has more than digits, and is there for that: two who make the same party at once make one.

Without our mark, a party is the one we mean by an identifier of our id that somebody has typed, or by its code.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from urllib.parse import unquote

import msgspec

from connectors.tryton.faults import AlreadyThere, StaleRecord
from connectors.tryton.handler import Outcome, bisected, receipt, refused
from connectors.tryton.markers import escaped
from connectors.tryton.rpc import ALL, Rpc
from contracts.channels import Receipt
from pipeline.errors import PermanentError

PARTY = "party.party"
CUSTOMER, WORKER = "customer", "worker"

#: Somebody else may make or write the same party meanwhile: so often it is looked up again.
rounds_max = 4

_MARK, _REFERENCE = "tieout", "tieout reference"
#: Our own way to reach a party has this name, so that those that people have entered stay as they are.
_OURS = "tieout"
_FIELDS = (
    *("code", "name", "write_date", "create_date", "_timestamp", "customer_payment_term.name"),
    *("identifiers.code", "identifiers.type"),
    *("contact_mechanisms.type", "contact_mechanisms.value", "contact_mechanisms.name"),
)


class Party(msgspec.Struct, frozen=True, kw_only=True):
    """A party as Tryton holds it. `marks` are our identifiers, by id; `plain` other people's without a type."""

    id: int
    code: str
    name: str
    written: datetime
    timestamp: str
    marks: dict[int, str]
    plain: tuple[str, ...]
    email: tuple[int, str] | None
    payment_term: str | None

    def key(self, role: str) -> str | None:
        """Who it is by our own mark."""
        beginning = f"{_MARK} {role} "
        return next(
            (unquote(mark[len(beginning) :]) for mark in self.marks.values() if mark.startswith(beginning)), None
        )

    @property
    def reference(self) -> str | None:
        """The record of our books that wrote it last."""
        found = (mark.rpartition(" ")[2] for mark in self.marks.values() if mark.startswith(_REFERENCE + " "))
        return next(map(unquote, found), None)

    def names(self, role: str) -> list[str]:
        """Everything that it can be called by, the surest first."""
        own = self.key(role)
        return [name for name in (own, *self.plain, self.code) if name]

    def called(self, role: str, name: str | None) -> str:
        """`name` where it can be called that, else the surest of its own."""
        names = self.names(role)
        return name if name in names and name is not None else names[0]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A party as it should be; what is None is left as it is, but for an e-mail address of ours, which goes."""

    key: str
    reference: str
    name: str
    email: str | None = None
    payment_term: int | None = None
    payment_term_name: str | None = None


class Parties:
    """Makes and writes the parties of one role. Everything raises what `Rpc.call` raises."""

    def __init__(self, rpc: Rpc, role: str) -> None:
        self._rpc, self._role = rpc, role

    async def put(self, wanted: Sequence[Wanted]) -> dict[str, Outcome]:
        """The party of each, by key, made or written where it is not as it should be; keys must differ."""
        outcomes: dict[str, Outcome] = {}
        for _ in range(rounds_max):
            left = [one for one in wanted if _is_open(outcomes.get(one.key))]
            if not left:
                break
            held = await held_parties(self._rpc, self._role, [one.key for one in left])
            fresh, stale = [], []
            for one in left:
                if one.key not in held:
                    # Refused for a code that is not that of a party of ours: somebody else's.
                    taken = isinstance(outcomes.get(one.key), AlreadyThere)
                    fresh.append((one, f"{self._role}-{one.key}" if taken else code_of(self._role, one.key)))
                    continue
                party = the_one(self._role, one.key, held[one.key])
                if isinstance(party, PermanentError):
                    outcomes[one.key] = party
                elif changes := self._changes(party, one):
                    stale.append((one, party, changes))
                else:
                    outcomes[one.key] = receipt(PARTY, party.id, at=party.written)
            for made, outcome in zip(fresh, await bisected(fresh, self._create), strict=True):
                outcomes[made[0].key] = outcome
            for written, outcome in zip(stale, await bisected(stale, self._write), strict=True):
                outcomes[written[0].key] = outcome
        return outcomes

    async def with_references(self, references: Sequence[str]) -> dict[str, Party]:
        """Parties by the record that wrote them last; those that something newer has written are left out."""
        marks = [_reference_mark(reference) for reference in references]
        found = await parties_where(self._rpc, [["identifiers.code", "in", marks]])
        by_reference = {party.reference: party for party in found}
        return {reference: by_reference[reference] for reference in references if reference in by_reference}

    async def written_since(self, moment: datetime, beginning: str) -> list[Party]:
        """Ours that were written since: those with a reference that begins so."""
        like = ["identifiers.code", "like", f"{_REFERENCE} {escaped(beginning)}%"]
        found = await parties_where(self._rpc, [written_since(moment), like])
        return [party for party in found if (party.reference or "").startswith(beginning)]

    async def count(self, beginning: str) -> int:
        """How many parties have a reference of ours that begins so."""
        start = f"{_REFERENCE} {escaped(beginning)}"
        domain = [["code", "like", f"{start}%"], ["type", "=", None]]
        listed = self._rpc.listed("party.identifier", domain, ["code", "party"], context=ALL)
        return len({mark["party"] async for mark in listed if mark["code"].startswith(start)})

    def _changes(self, party: Party, wanted: Wanted) -> dict[str, Any]:
        changes: dict[str, Any] = {}
        if party.name != wanted.name:
            changes["name"] = wanted.name
        if wanted.payment_term is not None and party.payment_term != wanted.payment_term_name:
            changes["customer_payment_term"] = wanted.payment_term
        if (party.email[1] if party.email else None) != wanted.email:
            changes["contact_mechanisms"] = _email_changes(party, wanted.email)
        if identifiers := self._mark_changes(party, wanted):
            changes["identifiers"] = identifiers
        return changes

    def _mark_changes(self, party: Party, wanted: Wanted) -> list[Any]:
        changes: list[Any] = []
        if party.key(self._role) is None:
            changes.append(["create", [{"type": None, "code": key_mark(self._role, wanted.key)}]])
        if party.reference != wanted.reference:
            ours = [number for number, mark in party.marks.items() if mark.startswith(_REFERENCE + " ")]
            mark = {"code": _reference_mark(wanted.reference)}
            changes.append(["write", ours[:1], mark] if ours else ["create", [{"type": None, **mark}]])
        return changes

    async def _create(self, fresh: Sequence[tuple[Wanted, str]]) -> list[Outcome]:
        values = [self._values(wanted, code) for wanted, code in fresh]
        return [receipt(PARTY, number) for number in await self._rpc.call(PARTY, "create", values)]

    def _values(self, wanted: Wanted, code: str) -> dict[str, Any]:
        marks = [key_mark(self._role, wanted.key), _reference_mark(wanted.reference)]
        values: dict[str, Any] = {
            "code": code,
            "name": wanted.name,
            # An invoice needs one, and Tryton's own client makes an empty one too.
            "addresses": [["create", [{}]]],
            "identifiers": [["create", [{"type": None, "code": mark} for mark in marks]]],
        }
        if wanted.email is not None:
            values["contact_mechanisms"] = [["create", [_email(wanted.email)]]]
        if wanted.payment_term is not None:
            values["customer_payment_term"] = wanted.payment_term
        return values

    async def _write(self, stale: Sequence[tuple[Wanted, Party, dict[str, Any]]]) -> list[Outcome]:
        """All in one call, and only if nobody has written them since they were read."""
        pairs = [part for _, party, changes in stale for part in ([party.id], changes)]
        seen = {f"{PARTY},{party.id}": party.timestamp for _, party, _ in stale}
        await self._rpc.call(PARTY, "write", *pairs, context={"_timestamp": seen})
        return [receipt(PARTY, party.id) for _, party, _ in stale]


async def held_parties(rpc: Rpc, role: str, keys: Sequence[str]) -> dict[str, tuple[Party, ...]]:
    """The parties that are meant by these ids of ours, active or not; several where nothing tells which.

    Our own mark decides, then an identifier that somebody has typed, then the code. A party with a mark of ours for
    somebody else is not meant.
    """
    marks = {key_mark(role, key) for key in keys}
    named = ["OR", ["identifiers.code", "in", sorted(marks.union(keys))], ["code", "in", sorted(set(keys))]]
    found = await parties_where(rpc, [named])
    meant: dict[str, tuple[Party, ...]] = {}
    for key in keys:
        ours = [party for party in found if party.key(role) == key]
        others = [party for party in found if not party.marks]
        typed = [party for party in others if key in party.plain]
        coded = [party for party in others if party.code == key and not key.isdecimal()]
        if first := next((parties for parties in (ours, typed, coded) if parties), None):
            meant[key] = tuple(first)
    return meant


def the_one(role: str, key: str, parties: Sequence[Party]) -> Party | PermanentError:
    """The party that is meant, where that is one."""
    if len(parties) == 1:
        return parties[0]
    names = ", ".join(f"{party.code} ({party.name})" for party in parties)
    return refused(f"several parties could be {role} {key!r}: {names}: leave its identifier with one of them")


def written_since(moment: datetime) -> list[Any]:
    """A condition: written at this moment or later; what was never written again has only been created."""
    return ["OR", ["write_date", ">=", moment], [["write_date", "=", None], ["create_date", ">=", moment]]]


def key_mark(role: str, key: str) -> str:
    return f"{_MARK} {role} {escaped(key)}"


def code_of(role: str, key: str) -> str:
    """Digits alone are what Tryton's own sequence gives: with such a code of ours, that would get stuck one day."""
    return f"{role}-{key}" if key.isdecimal() else key


async def parties_where(rpc: Rpc, domain: list[Any]) -> list[Party]:
    """Active or not, in order of id."""
    return [_party(record) async for record in rpc.listed(PARTY, domain, _FIELDS, context=ALL)]


def _party(record: dict[str, Any]) -> Party:
    untyped = {one["id"]: one["code"] for one in record.get("identifiers.") or () if not one["type"]}
    marks = {number: code for number, code in untyped.items() if code.startswith(_MARK + " ")}
    emails = [
        (one["id"], one["value"])
        for one in record.get("contact_mechanisms.") or ()
        if (one["type"], one["name"]) == ("email", _OURS)
    ]
    return Party(
        id=record["id"],
        code=record["code"],
        name=record["name"] or "",
        written=record["write_date"] or record["create_date"],
        timestamp=record["_timestamp"],
        marks=marks,
        plain=tuple(code for number, code in untyped.items() if number not in marks),
        email=emails[0] if emails else None,
        payment_term=(record.get("customer_payment_term.") or {}).get("name"),
    )


def _email_changes(party: Party, email: str | None) -> list[Any]:
    if party.email is None:
        return [["create", [_email(email)]]]
    return [["write", [party.email[0]], {"value": email}] if email else ["delete", [party.email[0]]]]


def _email(address: str | None) -> dict[str, Any]:
    return {"type": "email", "value": address, "name": _OURS}


def _reference_mark(reference: str) -> str:
    return f"{_REFERENCE} {escaped(reference)}"


def _is_open(outcome: Outcome | None) -> bool:
    """Not tried yet, or lost to somebody who was quicker: then what they have made is looked at."""
    return not isinstance(outcome, Receipt) and (outcome is None or isinstance(outcome, AlreadyThere | StaleRecord))
