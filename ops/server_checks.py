"""The doctor's look at the database and at Redis: reachable, version, permissions, schema."""

import asyncio
import os
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import SQLAlchemyError

from ops.findings import OK, PROBLEM, Finding, first_line, masked, remedy_for
from pipeline.settings import Settings
from store.database import schema_is_current

connect_timeout_s = 5
oldest_postgresql = 12


async def check_database(settings: Settings) -> list[Finding]:
    """Look at the database that the settings name."""
    return await asyncio.to_thread(_examine, settings.database_url)


def _examine(url: str) -> list[Finding]:
    try:
        parsed = make_url(url)
    except SQLAlchemyError as error:
        return [_problem("database", first_line(error), "correct DATABASE_URL")]
    return _sqlite(parsed, url) if parsed.get_backend_name() == "sqlite" else _postgresql(parsed, url)


def _sqlite(parsed: URL, url: str) -> list[Finding]:
    path = Path(parsed.database or "")
    existing = next(folder for folder in (path.parent, *path.absolute().parents) if folder.exists())
    if not os.access(path if path.exists() else existing, os.W_OK):
        return [_problem("database", f"{path} can't be written", "correct DATABASE_URL, or the folder's permissions")]
    if not path.exists():
        return [Finding(subject="database", level=OK, found=f"SQLite, {path} is made when it is needed")]
    return [Finding(subject="database", level=OK, found=f"SQLite at {path}, can be written"), _schema(url)]


def _postgresql(parsed: URL, url: str) -> list[Finding]:
    arguments = {"connect_timeout": connect_timeout_s} if "connect_timeout" not in parsed.query else {}
    engine = create_engine(parsed.set(drivername="postgresql+psycopg"), connect_args=arguments)
    try:
        with engine.connect() as connection:
            version = str(connection.scalar(text("SHOW server_version"))).split()[0]
            findings = [_version(version, url), _permissions(connection)]
    except SQLAlchemyError as error:
        detail = first_line(getattr(error, "orig", None) or error)
        remedy = remedy_for(detail, _cures(parsed), "correct DATABASE_URL, or start the server")
        return [_problem("database", f"can't use {masked(url)}: {detail}", remedy)]
    finally:
        engine.dispose()
    return [*findings, _schema(url)]


def _cures(parsed: URL) -> dict[str, str]:
    """What to do about what a PostgreSQL server says when it lets nobody in."""
    return {
        f'database "{parsed.database}" does not exist': f"createdb {parsed.database}, or correct DATABASE_URL",
        "role": f"createuser {parsed.username}, or correct the user in DATABASE_URL",
        "password": "correct user and password in DATABASE_URL",
        "refused": "start the server, or correct host and port in DATABASE_URL",
        "timeout": "start the server, or correct host and port in DATABASE_URL",
        "host name": "correct the host in DATABASE_URL",
        "resolve": "correct the host in DATABASE_URL",
    }


def _version(version: str, url: str) -> Finding:
    if int(version.partition(".")[0]) < oldest_postgresql:
        return _problem(
            "database", f"PostgreSQL {version}: {oldest_postgresql} or newer is needed", "upgrade PostgreSQL"
        )
    return Finding(subject="database", level=OK, found=f"PostgreSQL {version} at {masked(url)}")


def _permissions(connection: Connection) -> Finding:
    user = connection.scalar(text("SELECT current_user"))
    schema = connection.scalar(text("SELECT current_schema()"))
    subject = "database permissions"
    if schema is None or not connection.scalar(text("SELECT has_schema_privilege(current_schema(), 'CREATE')")):
        named = schema or "public"
        remedy = f'GRANT USAGE, CREATE ON SCHEMA "{named}" TO "{user}"'
        return _problem(subject, f"user {user} may not create tables in schema {named}", remedy)
    return Finding(subject=subject, level=OK, found=f"user {user} may create tables in schema {schema}")


def _schema(url: str) -> Finding:
    if schema_is_current(url):
        return Finding(subject="schema", level=OK, found="current")
    return _problem("schema", "not current: migrations are missing", "tieout migrate")


async def check_redis(settings: Settings) -> list[Finding]:
    """Look at Redis where the settings name one; without it every process keeps to the limits of targets by itself."""
    if settings.redis_url is None:
        return [Finding(subject="redis", level=OK, found="not used")]
    try:
        client = Redis.from_url(settings.redis_url, socket_connect_timeout=connect_timeout_s)
        async with client:
            version = (await client.info("server"))["redis_version"]
    except (RedisError, OSError, ValueError) as error:
        found = f"can't reach {masked(settings.redis_url)}: {first_line(error)}"
        return [_problem("redis", found, "correct REDIS_URL, unset it, or start the server")]
    return [Finding(subject="redis", level=OK, found=f"version {version} at {masked(settings.redis_url)}")]


def _problem(subject: str, found: str, remedy: str) -> Finding:
    return Finding(subject=subject, level=PROBLEM, found=found, remedy=remedy)
