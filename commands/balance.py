"""`tieout balance`: is everything that was read accounted for, here and in the targets, in count and in money?"""

from typing import Any

import click

from commands.output import json_option, money, out, print_json, print_table, say
from commands.session import with_engine
from contracts.money import NO_CURRENCY
from ops.reconciliation import Comparison, TieOut, tie_out
from pipeline.states import STATES
from store.balance import BalanceSheet

#: How wide the names of the lines are, and a sheet with a count and an amount.
LABEL_COLUMNS, SHEET_COLUMNS = 14, 27


@click.command()
@click.option("-t", "--type", "document_types", multiple=True, help="Only this document type: expense or expense.v1.")
@json_option
def balance(document_types: tuple[str, ...], as_json: bool) -> int:
    """Show the balance per document type and currency; exit status 1 when it does not hold.

    Checked against two outside witnesses: what is in flight must be in the broker, else it is stranded; what is
    posted must be in the target, with the same amount.

    \b
    Example:
      tieout balance --type expense
    """
    found = with_engine(tie_out)
    wanted = _of_types(found, document_types)
    if as_json:
        print_json(sheets_document(wanted))
    else:
        print_balance(wanted)
    return 0 if wanted.holds else 1


def sheets_document(found: TieOut) -> list[dict[str, Any]]:
    """One object per document type and currency; a difference to a target makes its sheet unbalanced."""
    documents = []
    for sheet in found.sheets:
        theirs = [_comparison(one) for one in found.comparisons if _belongs(one, sheet)]
        document = sheet.to_json() | {"targets": theirs}
        document["balanced"] = sheet.balanced and all(one["equal"] for one in theirs)
        documents.append(document)
    return documents


def print_balance(found: TieOut, *, with_targets: bool = True) -> None:
    """The sheets as tables with one column each, then the comparison with the targets, then what is wrong."""
    if not found.sheets:
        say("Nothing has been read yet: tieout ingest FILE --map MAPPING.toml")
        return
    valued = {sheet.document_type for sheet in found.sheets if sheet.currency != NO_CURRENCY}
    for sheets in _side_by_side(found.sheets, _sheets_abreast()):
        names = [_name(sheet, valued) for sheet in sheets]
        print_table(("", *names), _lines(sheets), right=names)
        say()
    if with_targets:
        print_comparisons(found.comparisons)
        for target, reason in found.silent.items():
            say(f"{target}: not compared, {reason}")
        say()
    say(verdict(found), "green" if found.holds else "red")


def print_comparisons(comparisons: list[Comparison]) -> None:
    """Ours beside theirs, per target, document type and currency."""
    print_table(
        ("target", "type", "ours", "theirs", "our amount", "their amount", "ties out"),
        [
            (
                one.target,
                one.document_type,
                one.ours,
                one.theirs if one.error is None else "?",
                money(one.our_amount, one.currency),
                money(one.their_amount, one.currency) if one.error is None else "?",
                ("yes" if not one.under_way else f"{one.under_way:,} under way") if one.equal else "NO",
            )
            for one in comparisons
        ],
        right=("ours", "theirs", "our amount", "their amount"),
        below=(("our amount", "their amount"),),
        empty="no target holds anything yet",
    )


def verdict(found: TieOut) -> str:
    """One line, or several, that say whether it holds and if not, why and what to do."""
    problems = [
        f"{sheet.document_type} {sheet.currency}: {finding}" for sheet in found.sheets for finding in sheet.findings
    ]
    stranded = {sheet.document_type: sheet.stranded for sheet in found.sheets if sheet.stranded}
    problems += [
        f"{document_type}: {count:,} in flight but not in the broker: tieout recover"
        for document_type, count in stranded.items()
    ]
    problems += [
        f"{one.target}: {one.document_type} {one.currency} differs: "
        f"{one.ours:,} here and {one.theirs:,} there, {one.our_amount:,} and {one.their_amount:,}"
        for one in found.comparisons
        if not one.equal and one.error is None
    ]
    unasked = {one.target: one.error for one in found.comparisons if one.error is not None}
    problems += [f"{target} can't be asked what it holds: {error}" for target, error in unasked.items()]
    if problems:
        return "It does not tie out.\n" + "\n".join(problems)
    return "It ties out: everything read is accounted for, here and in the targets, in count and in money."


def _lines(sheets: list[BalanceSheet]) -> list[tuple[str, ...]]:
    """The lines of the balance that are not empty everywhere, in its order."""
    rows: list[tuple[str, ...]] = []
    for line in ("read", "rejected", "accepted", *STATES):
        if line not in ("read", "accepted") and not any(sheet.counts[line] for sheet in sheets):
            continue
        sign = "= " if line == "accepted" else "  "
        rows.append((sign + line.replace("_", " "), *(_cell(sheet, line) for sheet in sheets)))
    return rows


def _name(sheet: BalanceSheet, valued: set[str]) -> str:
    """Records whose worth nobody knows yet stand apart from the others of their type."""
    if sheet.currency != NO_CURRENCY:
        return f"{sheet.document_type} {sheet.currency}"
    return f"{sheet.document_type} (no amount)" if sheet.document_type in valued else sheet.document_type


def _cell(sheet: BalanceSheet, line: str) -> str:
    count = sheet.counts[line]
    if not count:
        return "-"
    amount = sheet.amounts[line]
    worth = money(amount.amount, amount.currency)
    return f"{count:,}" + (f"  {worth:>18}" if worth else "")


def _sheets_abreast() -> int:
    """Up to four sheets stand side by side; on a narrow terminal fewer, so that no amount is broken."""
    return max(1, min(4, (out().width - LABEL_COLUMNS) // SHEET_COLUMNS))


def _side_by_side(sheets: list[BalanceSheet], columns: int) -> list[list[BalanceSheet]]:
    """Sheets with money apart from those without, so many to a table."""
    with_money = [sheet for sheet in sheets if sheet.currency != NO_CURRENCY]
    without = [sheet for sheet in sheets if sheet.currency == NO_CURRENCY]
    return [part[at : at + columns] for part in (without, with_money) for at in range(0, len(part), columns)]


def _of_types(found: TieOut, document_types: tuple[str, ...]) -> TieOut:
    if not document_types:
        return found

    def wanted(name: str) -> bool:
        return name in document_types or name.partition(".")[0] in document_types

    return TieOut(
        sheets=[sheet for sheet in found.sheets if wanted(sheet.document_type)],
        comparisons=[one for one in found.comparisons if wanted(one.document_type)],
        silent=found.silent,
    )


def _belongs(one: Comparison, sheet: BalanceSheet) -> bool:
    return (one.document_type, one.currency) == (sheet.document_type, sheet.currency)


def _comparison(one: Comparison) -> dict[str, Any]:
    asked = one.error is None
    return {
        "target": one.target,
        "count": one.ours,
        "target_count": one.theirs if asked else None,
        "amount": f"{one.our_amount:f}",
        "target_amount": f"{one.their_amount:f}" if asked else None,
        "under_way": one.under_way,
        "equal": one.equal,
        "error": one.error,
    }
