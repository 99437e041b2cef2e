"""Every test of the suite gets every subject that it asks for, over a system with nothing in it."""

from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from connectors.ledger import EmbeddedLedger
from pipeline.ports import Target
from store.database import Database
from tryton import Tryton, tryton
from tryton_cache import SERIES

from .registry import SUBJECTS
from .subjects import Subject
from .tryton_subject import TrytonSubject

#: Fixtures that stand for a subject, and which of them.
WANTED: dict[str, Callable[[type[Subject]], bool]] = {
    "subject": lambda subject: True,
    "immutable_subject": lambda subject: subject.immutable,
    "remote_subject": lambda subject: subject.remote,
}


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every subject that a test wants with each of its databases."""
    for fixture in WANTED.keys() & set(metafunc.fixturenames):
        cases = [
            pytest.param(name, kind, id=f"{name}-{kind}")
            for name, subject in SUBJECTS.items()
            if WANTED[fixture](subject)
            for kind in subject.databases
        ]
        # A mark, which comes before the databases that `migrated_url` has of its own.
        metafunc.definition.add_marker(pytest.mark.parametrize((fixture, "migrated_url"), cases, indirect=True))


#: Fixtures with the servers of those subjects that have one.
SERVERS = {"tryton": "fresh_erp", "tryton_8_2": "stricter_erp"}


def subject_named(request: pytest.FixtureRequest, database: Database) -> Subject:
    """Over a system with nothing of ours in it."""
    kind = SUBJECTS[request.param]
    if issubclass(kind, TrytonSubject):
        return kind.of(request.getfixturevalue(SERVERS[request.param]))
    return kind.at("", database)


subject = pytest.fixture(subject_named, name="subject")
immutable_subject = pytest.fixture(subject_named, name="immutable_subject")
remote_subject = pytest.fixture(subject_named, name="remote_subject")


@pytest.fixture(scope="module")
def stricter_erp(prepared_erp: None) -> Iterator[Tryton]:
    """A Tryton server of this module alone, of the series that refuses keys set by a client."""
    with tryton(SERIES[1]) as server:
        yield server


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
