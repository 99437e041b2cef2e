"""How `tieout dead` tells what it is about to do, and what would become of it."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from commands.output import counted, err, money, print_table, remark, say
from contracts.money import NO_CURRENCY, Money
from ops.forecast import ASKS_TARGET, WOULD_END, WOULD_FAIL, WOULD_PARK, WOULD_PASS, Forecast
from store.dead_letter_filter import Letter
from store.letter_rows import cause

WORDS = {
    WOULD_PASS: "would pass",
    WOULD_FAIL: "would fail again",
    WOULD_PARK: "would wait",
    WOULD_END: "would end as a duplicate or superseded",
    ASKS_TARGET: "would ask the target",
}


def amounts_of(amounts: Iterable[Money]) -> dict[str, Decimal]:
    """Added up by currency; what has no currency is left out."""
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for amount in amounts:
        if amount.currency != NO_CURRENCY:
            sums[amount.currency] += amount.amount
    return dict(sorted(sums.items()))


def in_words(amounts: Iterable[Money]) -> str:
    """`1,200.00 CHF and 3,400.00 EUR`; empty where nothing is worth money."""
    return " and ".join(money(amount, currency) for currency, amount in amounts_of(amounts).items())


def worth_of(letters: Sequence[Letter]) -> str:
    """`12 dead letters worth 3,400.00 EUR`."""
    worth = in_words(letter.amount for letter in letters)
    return counted(len(letters), "dead letter") + (f" worth {worth}" if worth else "")


def print_plan(verb: str, letters: Sequence[Letter]) -> None:
    """What a verb is about to move, by cause, on standard error: it belongs to the question."""
    groups: dict[str, list[Letter]] = defaultdict(list)
    for letter in letters:
        groups[letter.cause].append(letter)
    for why, members in groups.items():
        remark(f"  {len(members):>7,}  {why}  {in_words(letter.amount for letter in members)}")
    err().print()


def forecast_document(forecasts: Sequence[Forecast]) -> dict[str, Any]:
    """The forecast as JSON: how many of each verdict, and the causes of those that would fail."""
    return {
        "letters": len(forecasts),
        **{verdict: sum(one.verdict == verdict for one in forecasts) for verdict in WORDS},
        "causes": [
            {
                "verdict": verdict,
                "stage": stage,
                "code": code,
                "message": members[0].message,
                "count": len(members),
                "amounts": amounts_of(one.amount for one in members),
            }
            for (verdict, stage, code, _), members in _by_cause(forecasts).items()
        ],
    }


def print_forecast(forecasts: Sequence[Forecast]) -> None:
    """How many would now pass, and which would fail with what."""
    if not forecasts:
        say("No open dead letter matches: nothing to do.")
        return
    for verdict, words in WORDS.items():
        members = [one for one in forecasts if one.verdict == verdict]
        if members:
            worth = in_words(one.amount for one in members)
            say(f"{len(members):,} {words}" + (f" ({worth})" if worth else ""))
    causes = _by_cause(forecasts)
    if causes:
        say()
        print_table(
            ("count", "amount", "verdict", "stage", "code", "why"),
            [
                (len(members), in_words(one.amount for one in members), WORDS[verdict], stage, code, why)
                for (verdict, stage, code, why), members in causes.items()
            ],
            right=("count", "amount"),
            below=("why",),
        )
    say()
    say("Nothing was changed: this was a dry run.")


Cause = tuple[str, str, str | None, str | None]


def _by_cause(forecasts: Sequence[Forecast]) -> dict[Cause, list[Forecast]]:
    """Those that would not pass, by verdict, stage, code and why; the largest group first.

    Messages that differ only in numbers and days are one cause; what stands alone keeps its own words.
    """
    groups: dict[Cause, list[Forecast]] = defaultdict(list)
    for one in forecasts:
        if one.verdict not in (WOULD_PASS, ASKS_TARGET):
            why = (
                cause(one.code, one.message).removeprefix(f"{one.code}: ") if one.code and one.message else one.message
            )
            groups[one.verdict, one.stage, one.code, why].append(one)
    named: dict[Cause, list[Forecast]] = {}
    for (verdict, stage, code, why), members in groups.items():
        named[verdict, stage, code, members[0].message if len(members) == 1 else why] = members
    return dict(sorted(named.items(), key=lambda group: -len(group[1])))
