"""A row of a file, whatever the file's format."""

from collections.abc import Sequence
from typing import Any

import msgspec

from ops.ingest.lines import line_bytes_max

#: A record of more lines or bytes than this is an opening quote that nobody closed.
record_lines_max = 2000
record_bytes_max = line_bytes_max


class Row(msgspec.Struct, gc=False):
    """One data row. `number` counts data rows from 1, `line` is the physical line it begins on, `text` as it stands.

    `fault` says why the row can't be used. A `damaged` row was read, but some of its bytes are not what they should
    be: `damage_in` finds the column.
    """

    number: int
    line: int
    cells: Sequence[Any]
    text: str | bytes
    fault: str | None = None
    damaged: bool = False


def damage_in(row: Row, columns: Sequence[str]) -> dict[str, str]:
    """The columns of a damaged row whose bytes are not what they should be, each with what is wrong with them."""
    damage = {}
    for name, cell in zip(columns, row.cells, strict=False):
        if "\0" in cell:
            damage[name] = "contains a NUL byte"
        elif "\ufffd" in cell or any("\ud800" <= character <= "\udfff" for character in cell):
            damage[name] = "contains bytes that are not text in the file's encoding; see `encoding` in the mapping"
    return damage
