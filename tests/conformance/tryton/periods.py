"""Months that are closed in Tryton's books for as long as a test needs."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.erp.calls import Caller

CLOSED = [["state", "=", "closed"], ["period.state", "=", "open"]]


@contextmanager
def closed(admin: Caller, model: str, domain: list) -> Iterator[None]:
    numbers = admin(f"{model}.search", domain, 0, None, None)
    admin(f"{model}.close", numbers)
    try:
        yield
    finally:
        admin(f"{model}.reopen", numbers)
        # They are closed with their period, and not opened with it.
        admin("account.journal.period.reopen", admin("account.journal.period.search", CLOSED, 0, None, None))
