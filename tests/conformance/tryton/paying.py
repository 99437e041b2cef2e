"""Somebody pays an invoice in Tryton."""

from typing import Any

from tests.erp.calls import Caller, a_date, an_amount
from tryton import Tryton


def pay(call: Caller, server: Tryton, number: int, amount: str, day: str) -> None:
    """Pay an invoice whole, as the person at the desk does."""
    (head,) = call("account.invoice.read", [number], ["party", "account"])
    start: dict[str, Any] = {"payee": head["party"], "payees": [head["party"]], "amount": an_amount(amount)}
    start |= {"currency": server.seed["currencies"]["EUR"], "company": server.seed["company"], "description": "bank"}
    start |= {"invoice_account": head["account"], "payment_method": server.seed["payment_method"], "date": a_date(day)}
    call.wizard("account.invoice.pay", "account.invoice", number, {"start": start}, "choice")
