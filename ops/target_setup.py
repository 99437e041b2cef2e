"""Setting targets up and taking them away: checked, tried out, written down with who did it."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from connectors.catalogue import UnknownKind, kind_of
from connectors.kinds import InvalidOptions, checked
from ops.connecting import CannotOpen, limits_of
from ops.targets import Answer, ask, routes_to
from pipeline.codes import NO_ROUTE
from store.dead_letter_filter import DeadLetterFilter
from store.targets import TargetExists, TargetSpec, put_target, remove_target, unfinished

if TYPE_CHECKING:
    from ops.bootstrap import Engine

#: A name is part of every posting key, and of keys in Redis.
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,59}")


class InvalidTarget(ValueError):
    """What is said makes no target, or not now; the text says what to say instead."""


class NoAnswer(Exception):
    """The target was asked before it was written down, and did not answer as it should; nothing has changed."""


class InUse(Exception):
    """The target can't be removed: the rules name it, or deliveries are not through with it."""


class Added(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an addition: `answer` is None when the target was not asked; `waited` counts the dead letters that
    it was missing for; `unset` are the variables that this process does not have.
    """

    target: str
    kind: str
    replaced: bool
    answer: Answer | None
    routes: list[str]
    waited: int
    unset: list[str]


def specified(
    name: str, kind: str, options: Mapping[str, str], secrets: Mapping[str, str], limits: Mapping[str, float | int]
) -> TargetSpec:
    """A target as somebody describes it, checked as far as can be done without asking it.

    Raises:
      InvalidTarget: it is not one.
    """
    if not _NAME.fullmatch(name):
        raise InvalidTarget(f"{name!r}: a name is made of small letters, digits, dots, dashes and underscores")
    try:
        limits_of(limits)
        return TargetSpec(
            name=name,
            kind=kind,
            options=checked(kind_of(kind), options, secrets),
            secrets=dict(secrets),
            limits=dict(limits),
        )
    except (UnknownKind, InvalidOptions, CannotOpen) as error:
        raise InvalidTarget(str(error)) from None


async def add_target(
    engine: "Engine", spec: TargetSpec, actor: str, *, replace: bool = False, test: bool = True
) -> Added:
    """Ask the target something harmless, then write it down; processes that run take it up by themselves.

    Raises:
      InvalidTarget: the name is taken, or a secret is not in the environment.
      NoAnswer: it did not answer; nothing is written.
    """
    before = engine.connected.rows.get(spec.name)
    if spec.name in engine.connected.built_in:
        raise InvalidTarget(f"{spec.name} is built in: choose another name")
    if before is not None and not replace:
        raise InvalidTarget(f"there is a target {spec.name!r} already: --replace, or choose another name")
    if before is not None and before.kind != spec.kind:
        # Posting keys would stay, and what was posted under them would be looked for in another system.
        raise InvalidTarget(f"{spec.name} is of kind {before.kind}, which does not change: choose another name")
    answer = await _tried(engine, spec) if test else None
    try:
        await put_target(engine.db, spec, actor, replace=replace)
    except TargetExists as error:
        raise InvalidTarget(f"{error}: --replace, or choose another name") from None
    await engine.reference.refresh()
    return Added(
        target=spec.name,
        kind=spec.kind,
        replaced=before is not None,
        answer=answer,
        routes=routes_to(engine.rules, spec.name),
        waited=await _waited(engine, spec.name),
        unset=engine.connected.unset(spec),
    )


async def take_away(engine: "Engine", name: str, actor: str, reason: str | None, *, force: bool = False) -> bool:
    """Remove a target; False when there is none of this name. What it holds stays where it is.

    Raises:
      InvalidTarget: it is built in.
      InUse: the rules name it or deliveries are not through with it, and `force` is not set.
    """
    if name in engine.connected.built_in:
        raise InvalidTarget(f"{name} is built in: it stays")
    if name not in engine.connected.rows:
        return False
    if not force:
        if routes := routes_to(engine.rules, name):
            raise InUse(f"[[routing]] sends {', '.join(routes)} to {name}: correct the rules first, or --force")
        counts = (await unfinished(engine.db, [name]))[name]
        if counts:
            said = ", ".join(f"{count:,} {state.replace('_', ' ')}" for state, count in counts.items())
            raise InUse(f"deliveries are not through with {name}: {said}; --force makes dead letters of what comes by")
    removed = await remove_target(engine.db, name, actor, reason)
    await engine.reference.refresh()
    return removed


async def _tried(engine: "Engine", spec: TargetSpec) -> Answer:
    try:
        target = engine.connected.open(spec)
    except CannotOpen as error:
        raise InvalidTarget(f"{error} (--no-test sets {spec.name} up without asking it)") from None
    try:
        answer = await ask(target)
    finally:
        await target.close()
    if answer.error is not None:
        raise NoAnswer(f"{spec.name} is not set up: {answer.error} (--no-test sets it up all the same)")
    return answer


async def _waited(engine: "Engine", name: str) -> int:
    """The open dead letters that failed since there was no such target."""
    letters = await engine.dead_letters.list(DeadLetterFilter(codes=(NO_ROUTE.name,)))
    return sum(letter.message.startswith(f"target {name!r} is not connected") for letter in letters)
