"""The doctor: looks at every setting and every server, and says of each problem how to mend it."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from difflib import get_close_matches

from msgspec.structs import replace

from ops.bootstrap import open_engine
from ops.broker_check import check_broker
from ops.findings import OK, PROBLEM, WARNING, Finding, masked
from ops.server_checks import check_database, check_redis
from ops.targets import check_targets, secret_variables
from pipeline.rules import InvalidRules, load_rules
from pipeline.settings import VARIABLES, InvalidSetting, Settings, read_settings
from store.database import schema_is_current

PREFIX = "TIEOUT_"
LOG_LEVELS = ("TRACE", "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL")


async def examine(environment: Mapping[str, str]) -> AsyncIterator[Finding]:
    """Look at settings, rules, database, broker, Redis and targets, in the order in which one needs the other."""
    try:
        settings = read_settings(environment)
    except InvalidSetting as error:
        yield Finding(
            subject="settings",
            level=PROBLEM,
            found=str(error),
            remedy="correct the variable, or unset it for its default",
        )
        return
    local = [*settings_found(environment, settings), *rules_found(settings), *layout_found(settings)]
    for finding in local:
        yield finding
    needed = [*await check_database(settings), *await check_broker(settings)]
    for finding in (*needed, *await check_redis(settings)):
        yield finding
    if any(finding.level == PROBLEM for finding in (*local, *needed)):
        used = None
    else:
        findings, used = await targets_found(settings, environment)
        for finding in findings:
            yield finding
    for finding in strays_found(environment, used):
        yield finding


async def targets_found(settings: Settings, environment: Mapping[str, str]) -> tuple[list[Finding], set[str]]:
    """A look at the targets, and the environment variables that they name.

    An embedded database that does not exist yet is left alone.
    """
    if not await asyncio.to_thread(schema_is_current, settings.database_url):
        return [], set()
    # A doctor changes nothing: without the broker, whose queues every process declares when it connects.
    async with open_engine(replace(settings, amqp_url=None), environment=environment) as engine:
        return await check_targets(engine, settings), secret_variables(engine.connected.rows)


def settings_found(environment: Mapping[str, str], settings: Settings) -> list[Finding]:
    """Every setting: its value, masked where it holds a secret, and the variable it comes from."""
    findings = []
    for field, names in VARIABLES.items():
        name = next((name for name in names if environment.get(name)), None)
        value = getattr(settings, field)
        findings.append(
            Finding(
                subject=names[0],
                level=OK,
                found="not set" if value is None else masked(str(value)),
                source=f"environment ({name})" if name else "default",
            )
        )
    if settings.log_level.upper() not in LOG_LEVELS:
        findings.append(
            Finding(
                subject="TIEOUT_LOG_LEVEL",
                level=WARNING,
                found=f"{settings.log_level!r} is no level: only errors are logged",
                source="environment",
                remedy=f"set it to one of {', '.join(LOG_LEVELS)}",
            )
        )
    return findings


def strays_found(environment: Mapping[str, str], used: Collection[str] | None) -> list[Finding]:
    """Variables of ours by their name that are no settings, and that no target keeps a secret in.

    Args:
      used: those that targets do; None when the targets can't be asked, and only what looks like a setting is told.
    """
    known = {name for names in VARIABLES.values() for name in names}
    findings = []
    for name in sorted(environment):
        if not name.startswith(PREFIX) or name.startswith("TIEOUT_TEST_") or name in known or name in (used or ()):
            continue
        # Without what all of them begin with, which would make any two of them alike.
        close = get_close_matches(name.removeprefix(PREFIX), [one.removeprefix(PREFIX) for one in known], 1)
        if close or used is not None:
            findings.append(
                Finding(
                    subject=name,
                    level=PROBLEM,
                    found="no such setting, and no target keeps a secret in it: it has no effect",
                    source="environment",
                    remedy=f"rename it to {PREFIX}{close[0]}, or unset it" if close else f"unset {name}",
                )
            )
    return findings


def rules_found(settings: Settings) -> list[Finding]:
    """Whether the rules can be read and do not contradict themselves."""
    try:
        load_rules(settings.rules_file)
    except InvalidRules as error:
        return [Finding(subject="rules", level=PROBLEM, found=str(error), remedy="correct the file TIEOUT_RULES names")]
    where = str(settings.rules_file) if settings.rules_file else "the built-in defaults"
    return [Finding(subject="rules", level=OK, found=f"read from {where}")]


def layout_found(settings: Settings) -> list[Finding]:
    """Whether the parts fit each other: several processes need a database server."""
    sqlite = settings.database_url.startswith("sqlite")
    if settings.embedded:
        return [Finding(subject="layout", level=OK, found="embedded: everything in one process, no AMQP_URL")]
    if sqlite:
        return [
            Finding(
                subject="layout",
                level=PROBLEM,
                found="AMQP_URL is set but DATABASE_URL is SQLite, which serves one process only",
                remedy="set DATABASE_URL=postgresql://USER:PASSWORD@HOST/DATABASE for worker, bulk and clock",
            )
        ]
    return [Finding(subject="layout", level=OK, found="RabbitMQ and PostgreSQL: any number of processes")]
