"""The targets of one process: those built in, and those that somebody has set up, as their table says now.

A target that can't be opened keeps nobody from working: what goes to it waits on the broker, everything else goes on.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import msgspec
from loguru import logger
from sqlalchemy.ext.asyncio import AsyncConnection

from connectors.catalogue import UnknownKind, kind_of
from connectors.http.secrets import Secret
from connectors.http.standing import GuardLimits
from connectors.kinds import InvalidOptions, made
from pipeline.ports import Connector, Target, Translator
from pipeline.settings import Settings
from store.database import Database
from store.targets import TargetRow, TargetSpec, read_targets

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from connectors.http.client import Gate
    from connectors.http.guard import Guard

#: Redis shares what workers know of a target; nobody waits long for that.
redis_timeout_s = 2


class CannotOpen(Exception):
    """A target can't be opened by this process; the text says what to do, and holds no secret."""


class Connected:
    """What this process posts to. The mappings are handed to the stages and change in place as the table does.

    `unopened` says of each target that can't be opened why; `rows` are those of the table, opened or not. What has been
    replaced or removed is closed with the process: calls may still be under way in it.
    """

    def __init__(
        self, db: Database, settings: Settings, environment: Mapping[str, str], built_in: Sequence[Connector]
    ) -> None:
        self.targets: dict[str, Target] = {connector.name: connector.open(db) for connector in built_in}
        self.translators: dict[str, Translator] = {connector.name: connector.translator for connector in built_in}
        self.built_in = tuple(self.targets)
        self.unopened: dict[str, str] = {}
        self.guards: dict[str, Guard] = {}
        self.rows: dict[str, TargetRow] = {}
        self._settings, self._environment = settings, environment
        self._retired: list[Target] = []
        self._redis: Redis | None = None

    async def follow(self, connection: AsyncConnection) -> None:
        """Take up what has changed in the table."""
        rows = {row.name: row for row in await read_targets(connection) if row.name not in self.built_in}
        for name in self.rows.keys() - rows.keys():
            self._let_go(name)
        for name, row in rows.items():
            if name not in self.rows or self.rows[name].version != row.version:
                self._take_up(row)
        self.rows = rows

    def open(self, spec: TargetSpec, gate: "Gate" = nullcontext) -> Target:
        """Open a target; nothing is called yet, and it is for the caller to close.

        Raises:
          CannotOpen: its kind, an option or a secret is not to be had here.
        """
        try:
            kind = kind_of(spec.kind)
            return kind.open(made(kind, spec.name, spec.options, self._secrets(spec)), gate)
        except (UnknownKind, InvalidOptions) as error:
            raise CannotOpen(str(error)) from None

    def unset(self, spec: TargetSpec) -> list[str]:
        """The variables that hold its secrets and that this process does not have."""
        return [variable for variable in spec.secrets.values() if not self._environment.get(variable)]

    async def close(self) -> None:
        """Close every target there is and was, then the connection to Redis."""
        targets = [*self.targets.values(), *self._retired]
        for error in await asyncio.gather(*(target.close() for target in targets), return_exceptions=True):
            if isinstance(error, BaseException):
                logger.bind(event="target_not_closed").opt(exception=error).error("{!r}", error)
        if self._redis is not None:
            await self._redis.aclose()

    def _take_up(self, row: TargetRow) -> None:
        name = row.name
        try:
            guard = self._guard(row)
            target = self.open(row, guard)
            translator = kind_of(row.kind).translator(name)
        except CannotOpen as error:
            self._give_up(row, str(error))
        except Exception as error:
            # A connector's own defect: the others have their own.
            logger.bind(event="target_not_opened", target=name).opt(exception=error).error("{}: {!r}", name, error)
            self._give_up(row, f"{type(error).__name__}, a defect: see the log")
        else:
            self._retire(name)
            self.translators[name], self.targets[name], self.guards[name] = translator, target, guard
            self.unopened.pop(name, None)
            logger.bind(event="target_opened", target=name).info("{} ({}) is opened", name, row.kind)

    def _give_up(self, row: TargetRow, why: str) -> None:
        logger.bind(event="target_not_opened", target=row.name).warning("{} can't be opened: {}", row.name, why)
        self.unopened[row.name] = why
        self._retire(row.name)
        self.guards.pop(row.name, None)
        try:
            # Records can be made into its documents all the same, and wait in front of it.
            self.translators[row.name] = kind_of(row.kind).translator(row.name)
        except Exception:
            self.translators.pop(row.name, None)

    def _let_go(self, name: str) -> None:
        self._retire(name)
        self.translators.pop(name, None)
        self.unopened.pop(name, None)
        self.guards.pop(name, None)
        logger.bind(event="target_removed", target=name).info("{} has been removed", name)

    def _retire(self, name: str) -> None:
        if (target := self.targets.pop(name, None)) is not None:
            self._retired.append(target)

    def _secrets(self, spec: TargetSpec) -> dict[str, Secret]:
        secrets = {}
        for option, variable in spec.secrets.items():
            value = self._environment.get(variable)
            if not value:
                raise CannotOpen(f"{variable} is not set: set it to the {option} of {spec.name}")
            try:
                secrets[option] = Secret(value)
            except ValueError as error:
                raise CannotOpen(f"{variable}: {error}") from None
        return secrets

    def _guard(self, row: TargetRow) -> "Guard":
        from connectors.http.guard import Guard  # loads Redis's client

        return Guard(row.name, limits_of(row.limits), self._shared(), self._settings.prefix)

    def _shared(self) -> "Redis | None":
        """One client for all guards; it connects when it is first used, and its server may be away."""
        if self._redis is None and self._settings.redis_url is not None:
            from redis.asyncio import Redis

            try:
                self._redis = Redis.from_url(
                    self._settings.redis_url,
                    socket_connect_timeout=redis_timeout_s,
                    socket_timeout=redis_timeout_s,
                )
            except ValueError as error:
                logger.bind(event="redis_not_used").warning("REDIS_URL: {}", error)
        return self._redis


def limits_of(said: Mapping[str, Any]) -> GuardLimits:
    """The limits of a target, defaults filled in.

    Raises:
      CannotOpen: nothing could pass such a limit, or it is one of another release.
    """
    try:
        return msgspec.convert(dict(said), GuardLimits)
    except msgspec.ValidationError as error:
        raise CannotOpen(f"its limits: {error}") from None
