"""The connectors under test. A new one adds its subject to `SUBJECTS` and passes the suite."""

from collections.abc import AsyncIterator

import pytest

from connectors.ledger import EmbeddedLedger
from pipeline.ports import Target
from store.database import Database

from .subjects import LedgerSubject, MasterDataSubject, Subject

SUBJECTS = {"ledger": LedgerSubject, "masterdata": MasterDataSubject}
IMMUTABLE = [name for name, subject in SUBJECTS.items() if subject.immutable]


@pytest.fixture(params=SUBJECTS)
def subject(request: pytest.FixtureRequest, database: Database) -> Subject:
    return SUBJECTS[request.param](database)


@pytest.fixture(params=IMMUTABLE)
def immutable_subject(request: pytest.FixtureRequest, database: Database) -> Subject:
    return SUBJECTS[request.param](database)


@pytest.fixture
async def target(subject: Subject) -> AsyncIterator[Target]:
    target = subject.open()
    yield target
    await target.close()


@pytest.fixture
async def ledger(database: Database) -> AsyncIterator[EmbeddedLedger]:
    ledger = EmbeddedLedger(database)
    yield ledger
    await ledger.close()
