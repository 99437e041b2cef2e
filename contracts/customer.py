"""Customer: who is billed. Field names follow UBL and the CIM's external ids."""

from typing import Annotated

from contracts.base import PERSONAL, Contract, CountryCode, CurrencyCode, Id


class Customer(Contract, frozen=True, kw_only=True, tag_field="type", tag="customer.v1"):
    """A customer account as its system of record (usually the CRM) knows it."""

    id: Id
    name: str
    legal_name: str | None = None
    tax_id: str | None = None
    country: CountryCode | None = None
    currency: CurrencyCode | None = None
    payment_terms: str | None = None
    parent: Id | None = None
    email: Annotated[str | None, PERSONAL] = None
    status: str = "active"
