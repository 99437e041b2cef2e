"""Fixtures with a real ERP: Tryton servers of our own, each over a database that one session or module has to itself.

`erp` is shared by the session, so a test books there under references of its own. `fresh_erp` is one per module: for
tests that count what is there, or disturb the server. `postgres_erp` is one per module too, on the PostgreSQL of the
run: what Tryton checks and locks in its books holds only there (in SQLite it posts a move that does not balance).
For anything else a test calls `tryton` itself: other settings, more workers, another series.

What is not in the cache is prepared by the first test that needs it, in sight, since it takes a minute or two. An ERP
that can't be had fails the tests that need it; nothing is skipped.
"""

from collections.abc import Iterator

import pytest

from tryton import Tryton, tryton
from tryton_cache import SERIES, Database, installed_tryton, prepared_sqlite, wait_timeout_s
from tryton_postgres import fill, passing_database

#: Fixtures that prepare the same thing, whichever of them comes first.
PREPARING = (
    {"prepared_erp", "erp", "fresh_erp", "tryton"},
    {"newer_erp", "stricter_erp", "tryton_8_2"},
    {"postgres_erp_template", "postgres_erp"},
)


#: What takes a second series or a second kind of database: for `make thorough`, since `make test` has to stay short.
THOROUGH = {"newer_erp", "stricter_erp", "tryton_8_2", "postgres_erp_template", "postgres_erp"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Before pytest leaves out what `-m` leaves out."""
    for item in items:
        if THOROUGH & asked_for(item):
            item.add_marker(pytest.mark.thorough)


def pytest_collection_finish(session: pytest.Session) -> None:
    """The test that may have to prepare has the time for it; those after it are as bounded as any other."""
    for fixtures in PREPARING:
        if first := next((item for item in session.items if fixtures & asked_for(item)), None):
            first.add_marker(pytest.mark.timeout(wait_timeout_s), append=False)


def asked_for(item: pytest.Item) -> set[str]:
    """Names of fixtures, with those that a parameter names."""
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return {*getattr(item, "fixturenames", ()), *(name for name in parameters if isinstance(name, str))}


@pytest.fixture(scope="session")
def prepared_erp(request: pytest.FixtureRequest) -> None:
    """Tryton is in the cache, with a database in SQLite."""
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        prepared_sqlite(SERIES[0])


@pytest.fixture(scope="session")
def erp(prepared_erp: None) -> Iterator[Tryton]:
    """A Tryton server that the session shares."""
    with tryton() as server:
        yield server


@pytest.fixture(scope="module")
def fresh_erp(prepared_erp: None) -> Iterator[Tryton]:
    """A Tryton server of this module alone."""
    with tryton() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_erp_template(request: pytest.FixtureRequest, postgres_server: str) -> Iterator[Database]:
    """A prepared database on the PostgreSQL of the run, to copy."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with passing_database(postgres_server) as name:
        with capture.global_and_fixture_disabled():
            installed_tryton(SERIES[0])
            database = fill(postgres_server, name, SERIES[0])
        yield database


@pytest.fixture(scope="module")
def postgres_erp(postgres_server: str, postgres_erp_template: Database) -> Iterator[Tryton]:
    """A Tryton server of this module alone, with its database on the PostgreSQL of the run."""
    with tryton(postgres=postgres_server, template=postgres_erp_template) as server:
        yield server
