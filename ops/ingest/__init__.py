"""Ingest: files of somebody else's export become accepted records, row by row, or rejects with a reason.

Read in this order: `lines` (bytes to lines), `reader` with `csv_rows` and `json_rows` (lines to rows), `values` (text
to values), `layout` and `mapping` (the mapping file), `fields` and `translation` (rows to documents), `records`
(documents to what the store accepts), `sheet` and `rejects_file` (what came of it), `run` (all of it), `check` (a look
at the first rows).
"""
