"""What the store's tests start from."""

from collections.abc import AsyncIterator

import pytest

from store.database import Database
from tests.conformance.store.given import Given, given_in


@pytest.fixture
async def given(database: Database) -> AsyncIterator[Given]:
    """An empty database with its intake and ledger, of both kinds."""
    async with given_in(database) as ready:
        yield ready
