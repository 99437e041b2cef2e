"""What an expense's invoice is made of, in Tryton's ids: looked up for each bulk, since any of it may change."""

from collections.abc import Collection
from typing import Any

from connectors.tryton.mapping_expenses import EXPENSE_ACCOUNT, EXPENSE_SUPPLIER, EXPENSE_TAX, ExpenseBody
from connectors.tryton.parties import CUSTOMER, PARTY, WORKER, Party, held_parties, the_one
from connectors.tryton.rpc import ALL, Rpc
from pipeline.codes import TARGET_REFERENCE_MISSING
from pipeline.errors import PermanentError

SUPPLIER = "supplier"


class Payables:
    """Everything raises what `Rpc.call` raises."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    async def values(
        self, bodies: dict[str, ExpenseBody], comments: dict[str, str]
    ) -> dict[str, dict[str, Any] | PermanentError]:
        """What to create, by reference; an error for those that name something which is not in Tryton."""
        if not bodies:
            return {}
        some = list(bodies.values())
        parties = await self._parties(some)
        heads = await self._heads(sorted({party.id for party in parties.values() if isinstance(party, Party)}))
        accounts = await self._by("account.account", "code", {body.account for body in some}, [["closed", "!=", True]])
        taxes = await self._taxes({body.tax_name for body in some if body.tax_name})
        currencies = await self._by("currency.currency", "code", {body.currency for body in some})
        made: dict[str, dict[str, Any] | PermanentError] = {}
        for reference, body in bodies.items():
            party = parties.get(who_of(body))
            tax = taxes.get(body.tax_name or "")
            account, currency = accounts.get(body.account), currencies.get(body.currency)
            if party is None:
                made[reference] = _missing(*_named(body))
            elif isinstance(party, PermanentError):
                made[reference] = party
            elif account is None:
                made[reference] = _missing(f"account {body.account!r}", EXPENSE_ACCOUNT)
            elif body.tax_name and tax is None:
                made[reference] = _missing(f"tax {body.tax_name!r}", EXPENSE_TAX)
            elif currency is None:
                made[reference] = _missing(f"currency {body.currency!r}")
            else:
                line = {"type": "line", "currency": currency, "account": account, "quantity": 1, "unit_price": body.net}
                line |= {"description": body.description, "note": body.details}
                made[reference] = {
                    **heads[party.id],
                    "reference": reference,
                    "description": body.description,
                    "comment": comments[reference],
                    "invoice_date": body.date,
                    "currency": currency,
                    "lines": [["create", [line]]],
                    "taxes": [["create", [_tax(body, tax)]]] if tax else [],
                }
        return made

    async def called(self, invoices: dict[int, tuple[int, str, str | None]]) -> dict[int, str]:
        """By invoice, what we call its party, given its id, its role, and the name that it was sent under."""
        keys: dict[str, set[str]] = {WORKER: set(), SUPPLIER: set()}
        for _, role, name in invoices.values():
            if name:
                keys[role].add(name)
        meant = {role: await self._meant(role, sorted(names)) for role, names in keys.items() if names}
        called, others = {}, {}
        for number, (party, role, name) in invoices.items():
            found = meant.get(role, {}).get(name or "")
            if isinstance(found, Party) and found.id == party and name:
                called[number] = name
            else:
                others[number] = party
        if others:
            read = await self._rpc.call(PARTY, "read", sorted(set(others.values())), ["code"])
            codes = {record["id"]: record["code"] for record in read}
            called |= {number: codes[party] for number, party in others.items()}
        return called

    async def _parties(self, bodies: Collection[ExpenseBody]) -> dict[tuple[str, str], Party | PermanentError]:
        found: dict[tuple[str, str], Party | PermanentError] = {}
        for role in (WORKER, SUPPLIER):
            keys = sorted({name for body in bodies for part, name in (who_of(body),) if part == role})
            found |= {(role, key): party for key, party in (await self._meant(role, keys)).items()}
        return found

    async def _meant(self, role: str, keys: list[str]) -> dict[str, Party | PermanentError]:
        """Whom each key means; an error where that is several."""
        if not keys:
            return {}
        held = await held_parties(self._rpc, role, keys)
        if role == SUPPLIER and (missing := [key for key in keys if key not in held]):
            # Whom the firm owes may be a customer of ours as well.
            held |= await held_parties(self._rpc, CUSTOMER, missing)
        return {key: the_one(role, key, parties) for key, parties in held.items()}

    async def _heads(self, parties: list[int]) -> dict[int, dict[str, Any]]:
        """What Tryton itself fills in for an invoice of this party: payable account, address, journal, terms."""
        company = (await self._rpc.session()).company
        heads = {}
        for party in parties:
            head = {"type": "in", "company": company, "party": party}
            filled = await self._rpc.call("account.invoice", "on_change", head, ["type"], writes=False)
            address = filled.get("invoice_address") or await self._new_address(party)
            heads[party] = {
                **head,
                "invoice_address": address,
                **{name: filled.get(name) for name in ("account", "journal", "payment_term")},
            }
        return heads

    async def _new_address(self, party: int) -> int:
        """An empty one: an invoice must have an address, and a party that came by another way may have none."""
        (address,) = await self._rpc.call("party.address", "create", [{"party": party}])
        return int(address)

    async def _taxes(self, names: set[str]) -> dict[str, tuple[int, int]]:
        """Tax and its account, by name."""
        if not names:
            return {}
        domain = [["name", "in", sorted(names)], ["company", "=", (await self._rpc.session()).company]]
        listed = self._rpc.listed("account.tax", domain, ["name", "invoice_account"])
        return {one["name"]: (one["id"], one["invoice_account"]) async for one in listed if one["invoice_account"]}

    async def _by(self, model: str, field: str, keys: set[str], domain: Collection[Any] = ()) -> dict[str, int]:
        company = [["company", "=", (await self._rpc.session()).company]] if model == "account.account" else []
        listed = self._rpc.listed(model, [[field, "in", sorted(keys)], *company, *domain], [field], context=ALL)
        return {one[field]: one["id"] async for one in listed}


def who_of(body: ExpenseBody) -> tuple[str, str]:
    return (WORKER, body.worker) if body.worker is not None else (SUPPLIER, body.supplier or "")


def _named(body: ExpenseBody) -> tuple[str, str | None]:
    role, name = who_of(body)
    return f"{role} {name!r}", EXPENSE_SUPPLIER if role == SUPPLIER else None


def _missing(what: str, mapping: str | None = None) -> PermanentError:
    cause = f": correct the {mapping} mapping, or add it in Tryton" if mapping else ""
    return PermanentError(TARGET_REFERENCE_MISSING, f"Tryton has no {what}{cause}")


def _tax(body: ExpenseBody, tax: tuple[int, int]) -> dict[str, Any]:
    number, account = tax
    return {
        "manual": True,
        "tax": number,
        "account": account,
        "description": body.tax_name,
        "base": body.net,
        "amount": body.tax,
    }
