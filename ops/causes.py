"""Dead letters by cause as an operator wants them: what is worth most first, each with one real example."""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from contracts.money import NO_CURRENCY
from store.dead_letter_filter import DeadLetterFilter, Letter
from store.dead_letters import Group

if TYPE_CHECKING:
    from ops.bootstrap import Engine

#: Where a cause leaves out what differs from letter to letter, such as `<number>` and `<date>`.
PLACEHOLDER = re.compile(r"<[a-z ]+>")
#: Causes that are given an example: nobody reads further down.
examples_max = 50


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """The dead letters of one cause, a group for each currency. `example` is the one that has been dead longest.

    It is there where the cause alone does not say what happened: it stands for a single letter, or has placeholders.
    """

    groups: Sequence[Group]
    example: Letter | None = None

    @property
    def first(self) -> Group:
        """What all groups have in common can be read off any."""
        return self.groups[0]

    @property
    def count(self) -> int:
        """Dead letters in every currency."""
        return sum(group.count for group in self.groups)


async def causes(engine: "Engine", which: DeadLetterFilter) -> list[Cause]:
    """The causes of the matching letters.

    Worth most first, whatever the currency; then those whose worth nobody knows, most letters first.
    """
    found: dict[tuple[str, ...], list[Group]] = defaultdict(list)
    for group in await engine.dead_letters.groups(msgspec.structs.replace(which, limit=None)):
        found[group.code, group.cause, group.owner, group.stage, group.document_type].append(group)
    ordered = sorted((Cause(groups=sorted(groups, key=_by_worth)) for groups in found.values()), key=_order)
    shown = ordered[: which.limit]
    return [await _with_example(engine, which, cause) for cause in shown[:examples_max]] + shown[examples_max:]


async def _with_example(engine: "Engine", which: DeadLetterFilter, cause: Cause) -> Cause:
    first = cause.first
    if cause.count > 1 and not PLACEHOLDER.search(first.cause):
        return cause
    one = msgspec.structs.replace(
        which,
        codes=(first.code,),
        owners=(first.owner,),
        stages=(first.stage,),
        # A message that is not one of ours has no type; the filter would take that for any.
        document_types=(first.document_type,) if first.document_type else (),
        cause=first.cause,
        limit=1,
    )
    letters = await engine.dead_letters.list(one)
    return Cause(groups=cause.groups, example=letters[0] if letters else None)


def _by_worth(group: Group) -> tuple[bool, float, int]:
    return group.amount.currency == NO_CURRENCY, -float(group.amount.amount), -group.count


def _order(cause: Cause) -> tuple[bool, float, int, str]:
    unknown, worth, _ = _by_worth(cause.first)
    return unknown, worth, -cause.count, cause.first.cause
