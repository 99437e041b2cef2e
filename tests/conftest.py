"""What every test can ask for: a database of its own (of both kinds), the broker, and a name that nobody else uses.

A server that does not answer fails the tests that need it; nothing is skipped.
"""

import os
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg import sql
from sqlalchemy.engine import make_url

from store.database import Database, migrate

pytest_plugins = ["tests.erp.server", "tests.shelf"]

# How long an example takes says how busy the machine is.
settings.register_profile("tieout", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tieout")

DATABASE_KINDS = ("sqlite", "postgresql")


def random_name() -> str:
    """A name for a database or a prefix on a server that others use as well."""
    return f"tieout_test_{secrets.token_hex(6)}"


@pytest.fixture(scope="session")
def postgres_server() -> str:
    """The PostgreSQL server that tests create their databases on (`TIEOUT_TEST_DATABASE_URL`)."""
    return os.environ.get("TIEOUT_TEST_DATABASE_URL") or "postgresql://127.0.0.1:5432/postgres"


@contextmanager
def new_postgres_database(server: str, template: str = "template1") -> Iterator[str]:
    """Create a database, yield its SQLAlchemy URL, drop it whoever may still be connected."""
    name = random_name()
    libpq_url = make_url(server).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(libpq_url, autocommit=True, connect_timeout=10) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
    try:
        yield (
            make_url(server).set(drivername="postgresql+psycopg", database=name).render_as_string(hide_password=False)
        )
    finally:
        with psycopg.connect(libpq_url, autocommit=True, connect_timeout=10) as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """An SQLite file that does not exist yet, in a folder that does not exist yet."""
    return f"sqlite+aiosqlite:///{tmp_path / 'data' / 'tieout.db'}"


@pytest.fixture
def postgresql_url(postgres_server: str) -> Iterator[str]:
    """A new, empty PostgreSQL database."""
    with new_postgres_database(postgres_server) as url:
        yield url


@pytest.fixture(params=DATABASE_KINDS)
def database_url(request: pytest.FixtureRequest) -> str:
    """A new, empty database: the test runs on an SQLite file and on PostgreSQL."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture(scope="session")
def migrated_sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy from: migrating once a session keeps the suite short."""
    file = tmp_path_factory.mktemp("template") / "tieout.db"
    migrate(f"sqlite+aiosqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def migrated_postgres_name(postgres_server: str) -> Iterator[str]:
    """A migrated PostgreSQL database to copy from."""
    with new_postgres_database(postgres_server) as url:
        migrate(url)
        yield str(make_url(url).database)


@pytest.fixture
def migrated_sqlite_url(migrated_sqlite_file: Path, tmp_path: Path) -> str:
    """An SQLite file with the current schema and nothing in it."""
    shutil.copy(migrated_sqlite_file, tmp_path / "tieout.db")
    return f"sqlite+aiosqlite:///{tmp_path / 'tieout.db'}"


@pytest.fixture
def migrated_postgresql_url(postgres_server: str, migrated_postgres_name: str) -> Iterator[str]:
    """A PostgreSQL database with the current schema and nothing in it."""
    with new_postgres_database(postgres_server, template=migrated_postgres_name) as url:
        yield url


@pytest.fixture(params=DATABASE_KINDS)
def migrated_url(request: pytest.FixtureRequest) -> str:
    """A database with the current schema and nothing in it, of both kinds."""
    return str(request.getfixturevalue(f"migrated_{request.param}_url"))


@pytest.fixture
async def database(migrated_url: str) -> AsyncIterator[Database]:
    """An open database with the current schema and nothing in it, of both kinds."""
    database = await Database.open(migrated_url)
    yield database
    await database.close()


@pytest.fixture(scope="session")
def amqp_url() -> str:
    """The RabbitMQ server (`TIEOUT_TEST_AMQP_URL`); tests use queues under their own `prefix` and delete them."""
    return os.environ.get("TIEOUT_TEST_AMQP_URL") or "amqp://guest:guest@127.0.0.1:5672/"


@pytest.fixture(scope="session")
def redis_url() -> str:
    """The Redis server (`TIEOUT_TEST_REDIS_URL`)."""
    return os.environ.get("TIEOUT_TEST_REDIS_URL") or "redis://127.0.0.1:6379/0"


@pytest.fixture
def prefix() -> str:
    """A name prefix of this test alone, for exchanges, queues and keys."""
    return random_name()
