"""`tieout map check`: what a mapping file would make of the first rows of a file."""

from pathlib import Path

import click

from commands.output import cell, json_option, print_json, print_table, say
from ops.ingest.check import Checked
from ops.ingest.check import check as check_files
from ops.ingest.mapping import load_mapping

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.argument("mapping", metavar="MAPPING", type=FILE)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=FILE)
@click.option("-n", "--samples", default=3, show_default=True, type=click.IntRange(1, 100), help="Records to show.")
@json_option
def check(mapping: Path, files: tuple[Path, ...], samples: int, as_json: bool) -> int:
    """Check a mapping file against the first rows of files, and show the first mapped records; writes nothing.

    Exit status 1 when a row would be rejected or nothing is left to map.

    \b
    Example:
      tieout map check expenses.toml export.csv
    """
    checked = check_files(load_mapping(mapping), files, sample=samples)
    if as_json:
        print_json([{**_plain(one), "good": one.is_good} for one in checked])
    else:
        for one in checked:
            _print(one, mapping)
    return 0 if all(one.is_good for one in checked) else 1


def _plain(one: Checked) -> dict[str, object]:
    return {name: getattr(one, name) for name in one.__struct_fields__}


def _print(one: Checked, mapping: Path) -> None:
    say(f"{one.path}: {one.document_type} from {one.source}", "bold")
    say(
        f"first {one.rows:,} rows: {one.mapped:,} mapped, {one.filtered:,} left out by [where], "
        f"{one.rejected:,} would be rejected"
    )
    if one.columns_unused:
        say(f"columns not used: {', '.join(one.columns_unused)}")
    if one.error:
        say(f"could not be read to its end: {one.error}", "red")
    for sample in one.samples:
        say()
        revision = sample.revision or "derived from the content"
        say(f"row {sample.row}: id {sample.subject}, revision {revision}")
        for name, value in sample.fields.items():
            say(f"  {name:<20}{cell(value)}")
    if one.problems:
        say()
        print_table(("row", "column", "why"), [(p.row, p.column, p.reason) for p in one.problems], right=("row",))
    if one.mapped == 0:
        say()
        compare = "compare [where] with the file" if one.filtered else "mend what is named above"
        say(f"No row was mapped: {compare}.", "red")
    elif one.is_good:
        say()
        say(f"Good: tieout ingest {one.path} --map {mapping}", "green")
