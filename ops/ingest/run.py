"""Ingest whole files: read, map, accept in transactions, publish. Killed and run again: nothing lost, nothing twice."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from contracts.envelope import BULK
from contracts.money import Money
from ops.ingest.csv_rows import CsvRows
from ops.ingest.json_rows import JsonRows
from ops.ingest.layout import MappingRules
from ops.ingest.lines import UnreadableFile
from ops.ingest.reader import open_rows
from ops.ingest.records import Origin
from ops.ingest.rejects_file import RejectsFile
from ops.ingest.rows import Row
from ops.ingest.sheet import (
    ACCEPTED,
    REJECTED,
    SEEN_BEFORE,
    FileSummary,
    Refusal,
    Sheet,
    Summary,
    refusals_shown_max,
)
from ops.ingest.translation import BadCell, Translation, judge_row
from pipeline.errors import TransientError
from pipeline.rules import Rules
from pipeline.settings import Settings
from store.intake import AcceptedRecord, Intake, Reject
from store.outbox import OutboxRow

#: Records and rejects in one transaction.
records_per_transaction_max = 500
#: Rows looked at between two transactions or signs of life, when the filter leaves most of them out.
rows_per_chunk_max = 10_000
#: Publishings under way at once.
publishings_max = 8

Publish = Callable[[Sequence[OutboxRow]], Awaitable[None]]


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Where an ingest is, all files together. Bytes are those of the files as they are stored, compressed or not."""

    path: Path
    bytes_read: int
    bytes_total: int
    rows: int
    read: int
    rejected: int
    seconds: float

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds if self.seconds else 0.0


class Chunk(msgspec.Struct):
    """What goes into one transaction."""

    rows: int = 0
    filtered: int = 0
    records: list[AcceptedRecord] = []
    rejects: list[Reject] = []

    @property
    def read(self) -> int:
        return len(self.records) + len(self.rejects)


async def ingest(
    files: Sequence[Path],
    mapping: MappingRules,
    *,
    intake: Intake | None,
    publish: Publish,
    settings: Settings,
    stage: str,
    lane: str = BULK,
    dry_run: bool = False,
    actor: str = "",
    progress: Callable[[Progress], None] | None = None,
    rejects: Path | None = None,
    approved_states: Collection[str] = Rules().approved_states,
) -> Summary:
    """Accept every row of these files that the mapping wants, in transactions of bounded size.

    Args:
      intake: where records are accepted; may be None in a dry run, which writes nothing but the rejects file.
      publish: puts committed outbox rows on the broker and deletes them when confirmed.
      stage: the first stage of the pipeline.
      progress: called after every transaction, in this task.
      rejects: a CSV file to write the refused rows to.
      approved_states: those of the rules; a change from one of them to another is no change of content.

    Raises:
      InvalidMapping: a file lacks columns; nothing has been accepted from any file.
      UnreadableFile: a file can't be opened, or `rejects` not written; nothing has been accepted from any file.
      TransientError: the store can't be reached; what was accepted stays accepted, run it again.
    """
    for path in files:
        open_rows(path, mapping.file, mapping.columns(), mapping.needed_columns()).lines.close()
    if rejects is not None and any(_same(rejects, read) for read in (*files, mapping.path)):
        raise UnreadableFile(f"{rejects}: is itself read by this ingest; name another file for the rejects")
    began = time.monotonic()
    summary = Summary(dry_run=dry_run)
    publishing = _Publishing(publish, summary)
    refused = RejectsFile(rejects) if rejects is not None else None
    bytes_total, bytes_before = sum(path.stat().st_size for path in files), 0
    try:
        for path in files:
            file = FileSummary(path=str(path))
            summary.files.append(file)
            origin = Origin(
                mapping=mapping,
                settings=settings,
                lane=lane,
                started=datetime.now(UTC),
                approved_states=approved_states,
            )
            run = _Run(path, origin, None if dry_run else intake, stage, refused)

            def tell(bytes_read: int, path: Path = path, before: int = bytes_before) -> None:
                if progress is not None:
                    sheet = summary.sheet
                    progress(
                        Progress(
                            path=path,
                            bytes_read=before + bytes_read,
                            bytes_total=bytes_total,
                            rows=sheet.rows,
                            read=sheet.read,
                            rejected=sheet.rejected,
                            seconds=time.monotonic() - began,
                        )
                    )

            await run.read(file, publishing, actor, tell)
            bytes_before += path.stat().st_size
    finally:
        await publishing.finish()
        if refused is not None:
            refused.close()
    summary.seconds = time.monotonic() - began
    return summary


def _same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:
        return False


class _Publishing:
    """Publishes what has been committed, a bounded number of transactions at a time.

    Once the broker can't be reached, the rest stays in the outbox, where the clock finds it.
    """

    def __init__(self, publish: Publish, summary: Summary) -> None:
        self._publish = publish
        self._summary = summary
        self._under_way: set[asyncio.Task[None]] = set()

    async def put(self, rows: Sequence[OutboxRow]) -> None:
        """Begin to publish; waits only while too many publishings are under way."""
        if not rows:
            return
        while len(self._under_way) >= publishings_max:
            done, self._under_way = await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        self._under_way.add(asyncio.create_task(self._one(rows)))

    async def _one(self, rows: Sequence[OutboxRow]) -> None:
        if self._summary.owed_because is None:
            try:
                await self._publish(rows)
                return
            except TransientError as error:
                self._summary.owed_because = str(error)
        self._summary.owed += len(rows)

    async def finish(self) -> None:
        """Wait for all of them; raises the first error that is not the broker's."""
        under_way, self._under_way = self._under_way, set()
        for result in await asyncio.gather(*under_way, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result


class _Run:
    """One file on its way into the store."""

    def __init__(
        self, path: Path, origin: Origin, intake: Intake | None, stage: str, refused: RejectsFile | None
    ) -> None:
        self._path = path
        self._origin = origin
        self._intake = intake
        self._stage = stage
        self._refused = refused

    async def read(self, file: FileSummary, publishing: _Publishing, actor: str, tell: Callable[[int], None]) -> None:
        """Read the file to its end; the next chunk is mapped while the one before is committed."""
        mapping = self._origin.mapping
        rows = open_rows(self._path, mapping.file, mapping.columns(), mapping.needed_columns())
        chunks = self._chunks(rows)
        if self._intake is not None:
            file.run_id = await self._intake.open_run(
                actor=actor,
                origin=str(self._path),
                source=mapping.source,
                document_type=mapping.document_type,
                lane=self._origin.lane,
            )
        coming = asyncio.create_task(asyncio.to_thread(next, chunks, None))
        try:
            while (chunk := await asyncio.shield(coming)) is not None:
                bytes_read = rows.lines.bytes_read
                coming = asyncio.create_task(asyncio.to_thread(next, chunks, None))
                await self._accept(chunk, file, publishing)
                tell(bytes_read)
        finally:
            # A thread may still be reading: the file is closed under nobody's hands.
            await asyncio.wait([coming])
            rows.lines.close()
        if rows.lines.broken is not None:
            sheet = file.sheet
            file.error = (
                f"{self._path}: {rows.lines.broken}; {sheet.rows:,} rows could be read"
                f" ({sheet.accepted:,} accepted, {sheet.seen_before:,} seen before, {sheet.rejected:,} rejected)"
                ": fetch the file again and ingest it, what is in already is not taken twice"
            )
        elif self._intake is not None and file.run_id is not None:
            await self._intake.close_run(file.run_id)

    async def _accept(self, chunk: Chunk, file: FileSummary, publishing: _Publishing) -> None:
        file.sheet.rows += chunk.rows
        file.sheet.filtered += chunk.filtered
        file.sheet.read += chunk.read
        file.sheet.count(REJECTED, [reject.money for reject in chunk.rejects])
        for reject in chunk.rejects[: refusals_shown_max - len(file.refusals)]:
            file.refusals.append(Refusal(file.path, reject.row_number, reject.column, reject.reason))
        if self._intake is None or file.run_id is None:
            file.sheet.count(ACCEPTED, [record.money for record in chunk.records])
            return
        accepted = await self._intake.accept(
            file.run_id,
            chunk.records,
            chunk.rejects,
            rows=chunk.rows,
            filtered=chunk.filtered,
            read=chunk.read,
            messages=lambda records: self._origin.messages(records, self._stage),
        )
        _count(file.sheet, chunk.records, accepted.new)
        await publishing.put(accepted.outbox)

    def _chunks(self, rows: CsvRows | JsonRows) -> Iterator[Chunk]:
        """Runs in a thread: reading and mapping hold up nobody else."""
        translation = Translation(self._origin.mapping, rows.columns)
        if self._refused is not None:
            self._refused.begin(rows.columns, is_csv=isinstance(rows, CsvRows))
        chunk = Chunk()
        for row in rows:
            chunk.rows += 1
            try:
                if (record := self._judge(row, rows.columns, translation)) is None:
                    chunk.filtered += 1
                else:
                    chunk.records.append(record)
            except BadCell as refusal:
                chunk.rejects.append(self._origin.reject(row, refusal))
                if self._refused is not None:
                    self._refused.write(self._path, rows.columns, row, refusal)
            if chunk.read >= records_per_transaction_max or chunk.rows >= rows_per_chunk_max:
                yield chunk
                chunk = Chunk()
        if chunk.rows:
            yield chunk

    def _judge(self, row: Row, columns: Sequence[str], translation: Translation) -> AcceptedRecord | None:
        """The record of a row; None when the filter leaves it out.

        Raises:
          BadCell: the row is refused.
        """
        mapped = judge_row(row, columns, translation)
        return None if mapped is None else self._origin.record(mapped, row.number)


def _count(sheet: Sheet, records: Sequence[AcceptedRecord], new: Sequence[str]) -> None:
    """Each new id is accepted once; whatever else was read had been seen before."""
    left = set(new)
    amounts: dict[str, list[Money]] = {ACCEPTED: [], SEEN_BEFORE: []}
    for record in records:
        amounts[ACCEPTED if record.id in left else SEEN_BEFORE].append(record.money)
        left.discard(record.id)
    for word, values in amounts.items():
        sheet.count(word, values)
