"""The database: SQLite (one file, one process) or PostgreSQL, behind one interface; migrations are run from here."""

import asyncio
import select
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from loguru import logger
from sqlalchemy import Connection, Engine, Table, create_engine, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from pipeline.errors import OutcomeUnknown, TransientError
from store.bulk import insert_new_rows, insert_rows
from store.statements import among

SQLITE = "sqlite"
POSTGRESQL = "postgresql"

#: How long a writer waits for the writer of another process.
busy_timeout_s = 30
connect_timeout_s = 10

#: libpq's, in seconds (the last in milliseconds): a server that vanished without a word is noticed within a minute.
_NOTICE_A_SILENT_NETWORK = {
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 50_000,
}

#: How long a coroutine waits for a connection of the pool.
pool_timeout_s = 60

#: How long closing waits for connections that are still in use.
give_back_s_max = 5

#: A connection that has lain idle for longer is asked whether it is still there.
idle_s_max = 30
_IDLE_SINCE = "idle_since"

#: Any number, the same for all: who holds this advisory lock migrates the database.
MIGRATION_LOCK = 7_106_211_503

_SQLITE_BUSY = 5

#: Primary result codes of SQLite that may be gone at the next try: PERM 3, BUSY 5, LOCKED 6, READONLY 8, IOERR 10,
#: FULL 13, CANTOPEN 14, PROTOCOL 15.
_SQLITE_TRANSIENT = frozenset({3, 5, 6, 8, 10, 13, 14, 15})

Insert = sqlite.Insert | postgresql.Insert


class Database:
    """A pool of connections to one database.

    `begin` is for writing and commits at its end; `connect` is for reading and sees one moment, however many queries
    it runs: what it reads adds up. On SQLite there is one writer at a time, and a committed transaction has been
    synced to the disk (`synchronous=FULL`): a record is acknowledged on the strength of it, and a power cut right
    after must not take it back. Group commit is what keeps that affordable.
    """

    def __init__(self, url: URL, writes: AsyncEngine, reads: AsyncEngine) -> None:
        self.url = url
        self.dialect = url.get_backend_name()
        self._writes, self._reads = writes, reads
        self._one_writer: AbstractAsyncContextManager[Any] = asyncio.Lock() if self.dialect == SQLITE else nullcontext()

    @classmethod
    async def open(cls, url: str, *, pool_size: int = 10) -> "Database":
        """Open the database named by an SQLAlchemy URL; the folder of an SQLite file is made if need be.

        Raises:
          TransientError: it can't be reached.
        """
        parsed = _parse(url)
        if parsed.get_backend_name() == SQLITE:
            database = cls(parsed, _sqlite_engine(parsed, 1), _sqlite_engine(parsed, pool_size, reads_only=True))
        else:
            writes = create_async_engine(
                parsed,
                pool_size=pool_size,
                max_overflow=0,
                pool_timeout=pool_timeout_s,
                connect_args=_connect_arguments(parsed),
            )
            _replace_the_dead(writes.sync_engine)
            # Rows inserted by the hundred travel as one statement with many VALUES, not as hundreds.
            writes.dialect.use_insertmanyvalues_wo_returning = True
            # Shares the pool; psycopg sends both settings with BEGIN, so they cost no round trip.
            reads = writes.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            database = cls(parsed, writes, reads)
        try:
            # SQLite: the writer comes first, since it is the one that turns the write-ahead log on.
            async with database.begin() as connection:
                await connection.execute(text("SELECT 1"))
        except BaseException:
            await database.close()
            raise
        return database

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A write transaction: committed at the end, rolled back on any error.

        Raises:
          TransientError: the database is locked, out of reach or was lost on the way: nothing has been committed.
          OutcomeUnknown: it was lost during COMMIT: ask before doing anything that must not be done twice.
        """
        with _faults_are_transient():
            async with self._one_writer, self._writes.connect() as connection:
                await connection.begin()
                yield connection
                try:
                    await connection.commit()
                except DBAPIError as error:
                    if not error.connection_invalidated:
                        raise
                    raise OutcomeUnknown(f"database: lost during COMMIT: {str(error.orig).strip()}") from error

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncConnection]:
        """A read transaction on a snapshot of this moment; writing in it is an error.

        Raises:
          TransientError: the database is out of reach or was lost on the way.
        """
        with _faults_are_transient():
            async with self._reads.connect() as connection:
                yield connection

    def insert(self, table: Table) -> Insert:
        """An INSERT of this dialect, which knows `on_conflict_do_nothing` and `on_conflict_do_update`."""
        return sqlite.insert(table) if self.dialect == SQLITE else postgresql.insert(table)

    insert_rows = staticmethod(insert_rows)
    insert_new_rows = staticmethod(insert_new_rows)
    among = staticmethod(among)

    async def schema_is_current(self) -> bool:
        """Whether every migration has been run here."""
        async with self.connect() as connection:
            return await connection.run_sync(_is_current)

    async def close(self) -> None:
        """Close all connections, those that somebody is just giving back among them: who is cancelled leaves that to a
        task of its own.
        """
        await _given_back([self._writes.sync_engine.pool, self._reads.sync_engine.pool])
        await self._writes.dispose()
        if self.dialect == SQLITE:
            await self._reads.dispose()


def migrate(url: str) -> None:
    """Bring the schema up to date. When two processes try at once, the second waits and finds nothing left to do.

    Raises:
      TransientError: the database is locked or out of reach.
    """
    engine = _sync_engine(_parse(url))
    try:
        with _faults_are_transient(), engine.begin() as connection:
            if connection.dialect.name == POSTGRESQL:
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
            config = _alembic()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()


def schema_is_current(url: str) -> bool:
    """Whether every migration has been run; the blocking sibling of `Database.schema_is_current`.

    Raises:
      TransientError: the database is out of reach.
    """
    engine = _sync_engine(_parse(url))
    try:
        with _faults_are_transient(), engine.connect() as connection:
            return _is_current(connection)
    finally:
        engine.dispose()


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def _is_current(connection: Connection) -> bool:
    heads = set(ScriptDirectory.from_config(_alembic()).get_heads())
    return set(MigrationContext.configure(connection).get_current_heads()) == heads


def _parse(url: str) -> URL:
    """The URL with the driver we use, whether or not it names one; makes the folder of an SQLite file."""
    parsed = make_url(url)
    if parsed.get_backend_name() == POSTGRESQL or parsed.drivername == "postgres":
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() != SQLITE or parsed.database in (None, "", ":memory:"):
        raise ValueError(f"{parsed.drivername}: expected sqlite:///FILE or postgresql://HOST/DATABASE")
    Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
    return parsed.set(drivername="sqlite+aiosqlite")


def _connect_arguments(url: URL) -> dict[str, Any]:
    """libpq's settings that an operator has not chosen in the URL."""
    chosen = {"connect_timeout": connect_timeout_s, "application_name": "tieout"} | _NOTICE_A_SILENT_NETWORK
    return {name: value for name, value in chosen.items() if name not in url.query}


def _sync_engine(url: URL) -> Engine:
    if url.get_backend_name() == POSTGRESQL:
        return create_engine(url, connect_args=_connect_arguments(url))
    engine = create_engine(
        url.set(drivername="sqlite+pysqlite"), connect_args={"isolation_level": None, "timeout": busy_timeout_s}
    )
    _govern_sqlite(engine, reads_only=False)
    return engine


def _sqlite_engine(url: URL, pool_size: int, *, reads_only: bool = False) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=pool_timeout_s,
        # No isolation level: the driver would begin transactions lazily, and not at all for a SELECT.
        connect_args={"isolation_level": None, "timeout": busy_timeout_s},
    )
    _govern_sqlite(engine.sync_engine, reads_only=reads_only)
    return engine


def _govern_sqlite(engine: Engine, *, reads_only: bool) -> None:
    """Set the pragmas of every connection, and begin its transactions ourselves.

    A writer takes the write lock at once: taking it later, after a read, fails at once when somebody else has written
    in between, however long the busy timeout.
    """
    begin = "BEGIN" if reads_only else "BEGIN IMMEDIATE"
    pragmas = ["query_only=ON"] if reads_only else ["journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"]

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        for pragma in pragmas:
            _set(cursor, pragma)
        cursor.close()

    @event.listens_for(engine, "begin")
    def _began(connection: Connection) -> None:
        connection.exec_driver_sql(begin)


async def _given_back(pools: Sequence[Any]) -> None:
    """Wait, within the bound, until nobody has a connection any more."""
    one_more = asyncio.Event()
    for pool in pools:
        event.listen(pool, "checkin", lambda *_: one_more.set())
    try:
        async with asyncio.timeout(give_back_s_max):
            while any(pool.checkedout() for pool in pools):
                one_more.clear()
                await one_more.wait()
    except TimeoutError:
        logger.bind(event="connections_left").warning("closing a database that somebody still works with")


def _replace_the_dead(engine: Engine) -> None:
    """A connection that died while it lay in the pool is replaced instead of failing somebody's work.

    Asking the server each time would cost every transaction a round trip. One that the server, or the network, has
    ended has something to be read; one that has lain idle for long may have been forgotten on the way in silence.
    """

    @event.listens_for(engine, "checkin")
    def _checked_in(_connection: Any, record: Any) -> None:
        record.info[_IDLE_SINCE] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _checked_out(connection: Any, record: Any, _proxy: Any) -> None:
        idle_s = time.monotonic() - record.info.get(_IDLE_SINCE, time.monotonic())
        if idle_s < idle_s_max and not _has_something_to_read(connection.driver_connection):
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            # What ended this one has most likely ended the others.
            raise InvalidatePoolError(f"database: a connection was lost while it lay idle: {error}") from error


def _has_something_to_read(driver: Any) -> bool:
    if driver.closed:
        return True
    waiting = select.poll()
    waiting.register(driver.fileno(), select.POLLIN)
    return bool(waiting.poll(0))


def _set(cursor: Any, pragma: str) -> None:
    """Turning the write-ahead log on doesn't heed the busy timeout: two processes may open a new file at once."""
    deadline = time.monotonic() + busy_timeout_s
    while True:
        try:
            cursor.execute(f"PRAGMA {pragma}")
            return
        except Exception as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != _SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@contextmanager
def _faults_are_transient() -> Iterator[None]:
    """Turn faults of the database into TransientError; errors of ours (SQL, constraints) stay what they are."""
    try:
        yield
    except PoolTimeout as error:
        raise TransientError(f"database: no free connection for {pool_timeout_s} s") from error
    except DBAPIError as error:
        if not _is_transient(error):
            raise
        raise TransientError(f"database: {str(error.orig).strip()}") from error


def _is_transient(error: DBAPIError) -> bool:
    if error.connection_invalidated:
        return True
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in _SQLITE_TRANSIENT
    # psycopg: connection lost, too many connections, deadlock, lock time-out, disk full, server shutting down.
    return isinstance(error, OperationalError | InterfaceError)
