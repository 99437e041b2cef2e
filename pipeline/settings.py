"""Twelve-factor settings: one frozen value, read from a mapping of environment variables by `read_settings`."""

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import msgspec


class InvalidSetting(ValueError):
    """An environment variable can't be used; the text names it and says what to write."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the servers are and how much work is taken on at once.

    `amqp_url` None means embedded: everything in one process. Units are in the names. Per queue, a process holds at
    most `*_prefetch` messages and works on at most `*_records_max` records at a time; `*_threads` are those of a lane,
    for all its queues together. `worker_processes` None is what suits the machine; `consumer_timeout_ms` is what the
    broker is configured with, which no client can ask it.
    """

    database_url: str
    amqp_url: str | None = None
    redis_url: str | None = None
    rules_file: Path | None = None
    prefix: str = "tieout"
    data_dir: Path = Path("var")
    port: int = 8000
    region: str | None = None
    worker_processes: int | None = None
    live_threads: int = 16
    bulk_threads: int = 4
    live_prefetch: int = 64
    bulk_prefetch: int = 20
    live_records_max: int = 256
    bulk_records_max: int = 2_000
    bulk_batch_records_max: int = 200
    message_bytes_max: int = 1024 * 1024
    ledger_commit_rows_max: int = 2000
    ledger_linger_ms: int = 5
    retry_attempts_max: int = 8
    stage_time_limit_ms: int = 600_000
    consumer_timeout_ms: int = 1_800_000
    shutdown_grace_ms: int = 9_000
    stranded_after_s: int = 120
    reference_refresh_ms: int = 250
    payload_retention_days: int = 400
    ready_file: Path | None = None
    log_level: str = "INFO"
    log_format: str = "text"

    @property
    def embedded(self) -> bool:
        return self.amqp_url is None


LOG_FORMATS = ("text", "json")

#: Field by environment variable; the first name that is set wins.
VARIABLES: dict[str, tuple[str, ...]] = {
    "database_url": ("DATABASE_URL",),
    "amqp_url": ("AMQP_URL", "CLOUDAMQP_URL"),
    "redis_url": ("REDIS_URL", "REDISCLOUD_URL"),
    "port": ("PORT",),
    "ready_file": ("TIEOUT_READY_FILE",),
} | {
    field: (f"TIEOUT_{field.removesuffix('_file').upper()}",)
    for field in Settings.__struct_fields__
    if field not in ("database_url", "amqp_url", "redis_url", "port", "ready_file")
}


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read the settings from environment variables; an empty variable counts as unset.

    Raises:
      InvalidSetting: a variable has a value of the wrong kind.
    """
    values: dict[str, str] = {}
    for field, names in VARIABLES.items():
        if found := next((environment[name] for name in names if environment.get(name)), None):
            values[field] = found
    values.setdefault("database_url", f"sqlite:///{values.get('data_dir', 'var')}/tieout.db")
    values["database_url"] = _async_driver(values["database_url"])
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", values.get("prefix", "tieout")):
        raise InvalidSetting(f"TIEOUT_PREFIX={values['prefix']!r}: expected letters, digits, dots, dashes, underscores")
    for field, value in values.items():
        kind = Settings.__annotations__[field]
        if kind in (int, int | None) and not value.strip().isdigit():
            raise InvalidSetting(f"{VARIABLES[field][0]}={value!r}: expected a whole number")
    if int(values.get("worker_processes", 1)) < 1:
        raise InvalidSetting("TIEOUT_WORKER_PROCESSES=0: expected 1 or more; to stop working, stop the process")
    if values.get("log_format", "text") not in LOG_FORMATS:
        raise InvalidSetting(f"TIEOUT_LOG_FORMAT={values['log_format']!r}: expected {' or '.join(LOG_FORMATS)}")
    return msgspec.convert(values, Settings, strict=False, dec_hook=lambda kind, value: kind(value))


def _async_driver(url: str) -> str:
    """Name the asynchronous driver that SQLAlchemy is to use; PaaS URLs come without one."""
    parts = urlsplit(url)
    scheme = {"postgres": "postgresql+psycopg", "postgresql": "postgresql+psycopg", "sqlite": "sqlite+aiosqlite"}
    if parts.scheme.partition("+")[0] not in scheme:
        shown = f"{parts.scheme}:..." if parts.scheme else "no URL"
        raise InvalidSetting(f"DATABASE_URL ({shown}): expected sqlite:///FILE or postgresql://HOST/DATABASE")
    if "+" in parts.scheme:
        return url
    return url.replace(f"{parts.scheme}:", f"{scheme[parts.scheme]}:", 1) if parts.scheme else urlunsplit(parts)
