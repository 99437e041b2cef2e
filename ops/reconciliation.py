"""The tie-out: our ledger against itself, against what is on its way, and against what each target says it holds."""

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from ops.recovery import find_stranded
from pipeline.ports import Total
from store.balance import BalanceSheet, balance, target_totals

if TYPE_CHECKING:
    from ops.bootstrap import Engine


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What one target holds of a document type and currency, beside what we say it holds."""

    target: str
    document_type: str
    currency: str
    ours: int
    theirs: int
    our_amount: Decimal
    their_amount: Decimal

    @property
    def equal(self) -> bool:
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
    """The balance as it is now, with stranded records counted, and each target's totals beside ours."""
    stranded = Counter(record.document_type for record in await find_stranded(engine, engine.settings.stranded_after_s))
    sheets = await balance(engine.db, stranded)
    comparisons: list[Comparison] = []
    silent: dict[str, str] = {}
    for name, target in engine.targets.items():
        if not target.capabilities.totals:
            silent[name] = target.capabilities.lacks.get("totals", "it gives no totals")
            continue
        comparisons += compared(name, await target_totals(engine.db, name), await target.totals())
    return TieOut(sheets=sheets, comparisons=comparisons, silent=silent)


def compared(target: str, ours: Sequence[Total], theirs: Sequence[Total]) -> list[Comparison]:
    """Both accounts side by side; what only one of them knows stands against nothing."""
    here = {(total.document_type, total.amount.currency): total for total in ours}
    there = {(total.document_type, total.amount.currency): total for total in theirs}
    return [
        Comparison(
            target=target,
            document_type=key[0],
            currency=key[1],
            ours=_count(here.get(key)),
            theirs=_count(there.get(key)),
            our_amount=_amount(here.get(key)),
            their_amount=_amount(there.get(key)),
        )
        for key in sorted(here.keys() | there.keys())
    ]


def _count(total: Total | None) -> int:
    return total.count if total else 0


def _amount(total: Total | None) -> Decimal:
    return total.amount.amount if total else Decimal(0)
