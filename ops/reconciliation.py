"""The tie-out: our ledger against itself, against what is on its way, and against what each target says it holds."""

from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from ops.comparison import stranded_counts
from pipeline.errors import PipelineError
from pipeline.ports import Total
from store.balance import BalanceSheet, balance, open_calls, target_totals

if TYPE_CHECKING:
    from ops.bootstrap import Engine

_AT_REST: Mapping[tuple[str, str], int] = {}


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What one target holds of a document type and currency, beside what we say it holds.

    `under_way` counts the calls that were not answered, and the answers that came, while the two were being read: by
    so many the counts may differ, and the money can only be compared once it is 0. `error` says why the target could
    not be asked: nothing is known of its side then.
    """

    target: str
    document_type: str
    currency: str
    ours: int
    theirs: int
    our_amount: Decimal
    their_amount: Decimal
    under_way: int = 0
    error: str | None = None

    @property
    def equal(self) -> bool:
        if self.error is not None:
            return False
        if self.under_way:
            return abs(self.ours - self.theirs) <= self.under_way
        return self.ours == self.theirs and self.our_amount == self.their_amount


class TieOut(msgspec.Struct, frozen=True, kw_only=True):
    """`silent` names the targets that can't say what they hold, with the reason each gives."""

    sheets: list[BalanceSheet]
    comparisons: list[Comparison]
    silent: dict[str, str]

    @property
    def holds(self) -> bool:
        """Everything adds up here, nothing is stranded, and both sides agree in count and in money."""
        return all(sheet.balanced and not sheet.stranded for sheet in self.sheets) and all(
            comparison.equal for comparison in self.comparisons
        )


async def tie_out(engine: "Engine") -> TieOut:
    """The balance as it is now, with stranded records counted, and each target's totals beside ours.

    A target that does not answer keeps nobody from seeing the rest; what we posted to it ties out with nothing.
    """
    sheets = await balance(engine.db, await stranded_counts(engine))
    comparisons: list[Comparison] = []
    silent: dict[str, str] = {}
    for name, target in engine.targets.items():
        if not target.capabilities.totals:
            silent[name] = target.capabilities.lacks.get("totals", "it gives no totals")
            continue
        before = await target_totals(engine.db, name)
        try:
            theirs = await target.totals()
        except PipelineError as error:
            comparisons += not_compared(name, before, str(error))
            continue
        calls, after = await open_calls(engine.db, name), await target_totals(engine.db, name)
        comparisons += compared(name, after, theirs, under_way=_moved(before, after) + calls)
    for name, why in engine.connected.unopened.items():
        comparisons += not_compared(name, await target_totals(engine.db, name), f"it can't be opened: {why}")
    return TieOut(sheets=sheets, comparisons=comparisons, silent=silent)


def compared(
    target: str, ours: Sequence[Total], theirs: Sequence[Total], under_way: Mapping[tuple[str, str], int] = _AT_REST
) -> list[Comparison]:
    """Both accounts side by side; what only one of them knows stands against nothing."""
    here, there = _by_key(ours), _by_key(theirs)
    return [
        Comparison(
            target=target,
            document_type=key[0],
            currency=key[1],
            ours=_count(here.get(key)),
            theirs=_count(there.get(key)),
            our_amount=_amount(here.get(key)),
            their_amount=_amount(there.get(key)),
            under_way=under_way.get(key, 0),
        )
        for key in sorted(here.keys() | there.keys())
    ]


def not_compared(target: str, ours: Sequence[Total], error: str) -> list[Comparison]:
    """Our account beside that of a target that could not be asked."""
    return [replace(one, error=error) for one in compared(target, ours, [])]


def _moved(before: Sequence[Total], after: Sequence[Total]) -> Counter[tuple[str, str]]:
    """How many answers came between two readings; a correction changes the money and not the count."""
    then, now = _by_key(before), _by_key(after)
    return Counter(
        {
            key: max(1, abs(_count(now.get(key)) - _count(then.get(key))))
            for key in then.keys() | now.keys()
            if then.get(key) != now.get(key)
        }
    )


def _by_key(totals: Sequence[Total]) -> dict[tuple[str, str], Total]:
    return {(total.document_type, total.amount.currency): total for total in totals}


def _count(total: Total | None) -> int:
    return total.count if total else 0


def _amount(total: Total | None) -> Decimal:
    return total.amount.amount if total else Decimal(0)
