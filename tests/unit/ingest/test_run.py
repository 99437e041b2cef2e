"""Whole files into the store: everything once, in count and in money, whatever happens on the way."""

import asyncio
import csv
import gzip
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import func, select

from contracts.decoding import decode_document
from contracts.envelope import BULK, LIVE
from ops.ingest.check import check
from ops.ingest.layout import InvalidMapping, MappingRules
from ops.ingest.lines import UnreadableFile
from ops.ingest.records import Origin
from ops.ingest.run import Progress, ingest, records_per_transaction_max
from ops.ingest.sheet import Summary
from pipeline.errors import TransientError
from pipeline.messages import decode
from pipeline.settings import Settings
from store.database import Database
from store.intake import Intake
from store.outbox import Outbox, OutboxRow
from store.tables import outbox, records, rejects, runs
from tests.unit.ingest.files import EXPENSE, a_file, a_mapping, expenses, translate

SETTINGS = Settings(database_url="sqlite://", bulk_batch_records_max=200, region="eu")
TIME = """
    document_type = "time_entry"
    source = "test"
    id = "id"
    [fields]
    worker = "worker"
    date = "date"
    hours = "hours"
    """


class Broker:
    """Keeps what is published; `confirms` False is a broker out of reach, `dies_after` a process killed on the way."""

    def __init__(self, *, confirms: bool = True, dies_after: int | None = None) -> None:
        self.published: list[OutboxRow] = []
        self._confirms = confirms
        self._dies_after = dies_after

    async def publish(self, rows: Sequence[OutboxRow]) -> None:
        if not self._confirms:
            raise TransientError("broker: connection refused")
        if self._dies_after is not None and len(self.published) >= self._dies_after:
            raise Killed
        self.published += rows

    @property
    def record_ids(self) -> list[str]:
        return [item.id for row in self.published for item in decode(row.body).items]


class Killed(BaseException):
    """Ends everything, as a SIGKILL would, without a chance to tidy up."""


async def run(files: Sequence[Path], mapping: MappingRules, db: Database | None, broker: Broker, **options) -> Summary:
    return await ingest(
        files,
        mapping,
        intake=Intake(db, Outbox(db)) if db is not None else None,
        publish=broker.publish,
        settings=SETTINGS,
        stage="validate",
        actor="test",
        **({"dry_run": db is None} | options),
    )


def lines_of(listed: Path) -> list[dict[str, str]]:
    with listed.open(newline="") as file:
        return list(csv.DictReader(file))


async def count(db: Database, table) -> int:
    async with db.connect() as connection:
        return await connection.scalar(select(func.count()).select_from(table))


async def rows_of(db: Database, table):
    async with db.connect() as connection:
        return (await connection.execute(select(table).order_by(*table.primary_key.columns))).mappings().all()


async def test_every_row_is_accepted_once_and_a_second_run_accepts_nothing(tmp_path, database):
    file, mapping, broker = a_file(tmp_path, expenses(1203), "e.csv.gz"), a_mapping(tmp_path), Broker()
    first = await run([file], mapping, database, broker)
    assert (first.sheet.rows, first.sheet.read, first.sheet.accepted) == (1203, 1203, 1203)
    amount = sum((Decimal(f"{number}.50") for number in range(1, 1204)), Decimal(0))
    assert first.sheet.amounts["EUR"]["accepted"] == amount
    assert await count(database, records) == len(set(broker.record_ids)) == len(broker.record_ids) == 1203
    second = await run([file], mapping, database, broker)
    assert (second.sheet.accepted, second.sheet.seen_before) == (0, 1203)
    assert second.sheet.amounts["EUR"]["seen_before"] == amount
    assert len(broker.record_ids) == 1203


async def test_the_same_row_twice_in_one_file_is_accepted_once_in_count_and_in_money(tmp_path, database):
    file = a_file(tmp_path, "id,date,amount\nA,2026-01-01,5\nA,2026-01-01,5\nB,2026-01-01,1\n")
    summary = await run([file], a_mapping(tmp_path), database, Broker())
    assert (summary.sheet.read, summary.sheet.accepted, summary.sheet.seen_before) == (3, 2, 1)
    assert summary.sheet.amounts["EUR"]["accepted"] == 6
    assert summary.sheet.amounts["EUR"]["seen_before"] == 5


async def test_killed_half_way_and_run_again_nothing_is_lost_and_nothing_taken_twice(tmp_path, database):
    file, mapping = a_file(tmp_path, expenses(3000)), a_mapping(tmp_path)
    killed = Broker(dies_after=5)
    with pytest.raises(Killed):
        await run([file], mapping, database, killed)
    before = await count(database, records)
    assert before > 0
    again = Broker()
    summary = await run([file], mapping, database, again)
    assert summary.sheet.accepted == 3000 - before
    assert await count(database, records) == 3000
    owed = [item.id for row in await Outbox(database).pending(1000) for item in decode(row.body).items]
    assert set(owed) == {row["id"] for row in await rows_of(database, records)}, "each is owed to the broker"
    assert len(owed) == 3000


async def test_two_processes_reading_the_same_file_at_once_share_it(tmp_path, database):
    file, mapping, broker = a_file(tmp_path, expenses(1500)), a_mapping(tmp_path), Broker()
    both = await asyncio.gather(*(run([file], mapping, database, broker) for _ in range(2)))
    assert sum(summary.sheet.accepted for summary in both) == 1500
    assert sorted(broker.record_ids) == sorted({row["id"] for row in await rows_of(database, records)})


async def test_bulk_travels_in_batches_and_live_one_by_one(tmp_path, database):
    mapping = a_mapping(tmp_path)
    for lane, sizes, first in ((BULK, {200, 100}, 1), (LIVE, {1}, 1000)):
        broker = Broker()
        await run([a_file(tmp_path, expenses(500, first=first))], mapping, database, broker, lane=lane)
        assert {row.records for row in broker.published} == sizes
        envelope = decode(broker.published[0].body).envelope
        assert (envelope.lane, envelope.type, envelope.source, envelope.region) == (lane, "expense.v1", "test", "eu")
        assert broker.published[0].stage == "validate"


async def test_a_message_stays_below_its_bound(tmp_path, database):
    content = "id,date,amount,note\n" + "".join(f"{n},2026-01-01,1,{'x' * 90_000}\n" for n in range(40))
    content += f'99,2026-01-01,1,"{"x" * 100_000}\n{"y" * 6_000}"\n'
    broker = Broker()
    summary = await run([a_file(tmp_path, content)], a_mapping(tmp_path, fields='note = "note"'), database, broker)
    assert summary.sheet.accepted == 41
    assert max(len(row.body) for row in broker.published) <= SETTINGS.message_bytes_max
    assert len(broker.published) > 3


async def test_a_record_is_what_the_contract_says_and_knows_its_keys(tmp_path, database):
    content = "id,worker,date,hours\nT1,W-1,2026-03-31,7.50\nT2,W-1,2026-03-31,7.5\n"
    await run([a_file(tmp_path, content)], a_mapping(tmp_path, TIME), database, Broker())
    one, two = await rows_of(database, records)
    entry = decode_document("time_entry.v1", one["payload"])
    assert (entry.id, entry.worker, str(entry.hours)) == ("T1", "W-1", "7.5")
    assert one["worker_day"] == "W-1|2026-03-31"
    assert one["business_key"] == two["business_key"] is not None
    assert one["fingerprint"] != two["fingerprint"]
    assert (one["subject"], one["hours"], one["row_number"], one["correlation_id"]) == ("T1", "7.5", 1, one["id"])


async def test_without_a_revision_equal_content_is_the_same_revision_and_other_content_a_newer_one(tmp_path, database):
    mapping = a_mapping(tmp_path, fields='status = "status"')
    contents = [
        "E,2026-01-01,1,approved",
        "E,2026-01-01,2,approved",
        "E,2026-01-01,2.0,approved",
        "E,2026-01-01,2,paid",
    ]
    accepted = []
    for content in contents:
        file = a_file(tmp_path, f"id,date,amount,status\n{content}\n")
        accepted.append((await run([file], mapping, database, Broker())).sheet.accepted)
    assert accepted == [1, 1, 0, 1]
    rows = await rows_of(database, records)
    orders = [row["revision_order"] for row in rows]
    assert orders == sorted(set(orders))
    assert rows[0]["fingerprint"] != rows[1]["fingerprint"] == rows[2]["fingerprint"]


async def test_a_revision_column_orders_by_value_and_not_by_text(tmp_path, database):
    mapping = a_mapping(tmp_path, top='revision = { column = "r", type = "integer" }')
    await run(
        [a_file(tmp_path, "id,date,amount,r\nE,2026-01-01,1,10\nE,2026-01-01,2,9\n")], mapping, database, Broker()
    )
    ten, nine = await rows_of(database, records)
    assert (ten["revision"], nine["revision"]) == ("10", "9")
    assert ten["revision_order"] > nine["revision_order"]


async def test_rejects_are_kept_with_row_column_reason_and_amount_and_counted_once(tmp_path, database):
    content = expenses(3) + "E-9,31.03.2026,80.25,late\nE-10,2026-01-01,much,?\nE-11\n"
    file, mapping = a_file(tmp_path, content), a_mapping(tmp_path)
    listed = tmp_path / "rejects.csv"
    first = await run([file], mapping, database, Broker(), rejects=listed)
    assert (first.sheet.read, first.sheet.accepted, first.sheet.rejected) == (6, 3, 3)
    assert first.sheet.amounts["EUR"]["rejected"] == Decimal("80.25")
    kept = await rows_of(database, rejects)
    assert [(row["row_number"], row["column"]) for row in kept] == [(4, "date"), (5, "amount"), (6, None)]
    assert kept[0]["amount_minor"] == 8025
    written = lines_of(listed)
    places = [(row["row"], row["line"], row["column"]) for row in written]
    assert places == [("4", "5", "date"), ("5", "6", "amount"), ("6", "7", "")]
    assert (written[0]["id"], written[0]["date"], written[0]["file"]) == ("E-9", "31.03.2026", "export.csv")
    assert written[2]["raw"] == "E-11"
    second = await run([file], mapping, database, Broker())
    assert (second.sheet.rejected, second.sheet.seen_before) == (3, 3)
    assert await count(database, rejects) == 3


async def test_a_mended_rejects_file_can_be_ingested_as_it_is(tmp_path, database):
    mapping, listed = a_mapping(tmp_path), tmp_path / "rejects.csv"
    await run([a_file(tmp_path, "id,date,amount\nE,31.03.2026,1\n")], mapping, database, Broker(), rejects=listed)
    listed.write_text(listed.read_text().replace("31.03.2026,1", "2026-03-31,1"))
    assert (await run([listed], mapping, database, Broker())).sheet.accepted == 1


async def test_counters_of_the_runs_add_up(tmp_path, database):
    mapping = a_mapping(tmp_path, top='where = { note = { not = "note 2" } }')
    files = [a_file(tmp_path, expenses(4), "a.csv"), a_file(tmp_path, expenses(6) + "x,y\n", "b.csv")]
    summary = await run(files, mapping, database, Broker())
    assert [file.sheet.rows for file in summary.files] == [4, 7]
    kept = await rows_of(database, runs)
    for row in kept:
        assert row["rows"] == row["filtered"] + row["read"]
        assert row["read"] == row["accepted"] + row["seen_before"] + row["rejected"]
        assert row["finished_at"] is not None
    assert {Path(row["origin"]).name: row["accepted"] for row in kept} == {"a.csv": 3, "b.csv": 2}


async def test_a_truncated_file_is_read_as_far_as_it_goes_and_finished_when_it_is_whole(tmp_path, database):
    whole = gzip.compress(expenses(6_000).encode())
    file, mapping = tmp_path / "e.csv.gz", a_mapping(tmp_path)
    file.write_bytes(whole[: len(whole) // 3])
    cut = await run([file], mapping, database, Broker())
    (error,) = cut.errors
    assert "truncated" in error
    assert f"{cut.sheet.rows:,} rows" in error
    assert 0 < cut.sheet.accepted < 6_000
    assert cut.sheet.rejected <= 1
    file.write_bytes(whole)
    rest = await run([file], mapping, database, Broker())
    assert not rest.errors
    assert cut.sheet.accepted + rest.sheet.accepted == await count(database, records) == 6_000


async def test_nothing_is_accepted_from_any_file_when_one_lacks_a_column_or_is_missing(tmp_path, database):
    good, mapping = a_file(tmp_path, expenses(3)), a_mapping(tmp_path)
    for bad, error in (
        (a_file(tmp_path, "id,date\n", "bad.csv"), InvalidMapping),
        (tmp_path / "no.csv", UnreadableFile),
    ):
        with pytest.raises(error):
            await run([good, bad], mapping, database, Broker())
    assert await count(database, records) == await count(database, runs) == 0


async def test_when_the_broker_is_away_everything_is_accepted_and_owed(tmp_path, database):
    summary = await run([a_file(tmp_path, expenses(1000))], a_mapping(tmp_path), database, Broker(confirms=False))
    assert (summary.sheet.accepted, summary.owed) == (1000, await count(database, outbox))
    assert "connection refused" in str(summary.owed_because)


async def test_a_number_no_ledger_can_hold_is_refused_and_a_product_of_two_large_ones_is_worth_nothing_yet(
    tmp_path, database
):
    text = TIME + '    rate = "rate"\n    currency = { constant = "EUR" }\n'
    rows = [f"A,W,2026-01-01,{'9' * 12},{'9' * 12}", f"B,W,2026-01-01,1,{'9' * 13}"]
    file = a_file(tmp_path, "id,worker,date,hours,rate\n" + "\n".join(rows))
    summary = await run([file], a_mapping(tmp_path, text), database, Broker())
    assert (summary.sheet.accepted, summary.sheet.rejected, summary.sheet.amounts) == (1, 1, {})


async def test_a_currency_that_does_not_exist_is_left_to_validate(tmp_path, database):
    text = EXPENSE.replace('"EUR"', '"QQQ"')
    summary = await run([a_file(tmp_path, expenses(1))], a_mapping(tmp_path, text), database, Broker())
    assert (summary.sheet.accepted, summary.sheet.amounts) == (1, {})


async def test_progress_grows_to_the_whole_of_all_files(tmp_path):
    told: list[Progress] = []
    files = [a_file(tmp_path, expenses(3 * records_per_transaction_max), f"{name}.csv.gz") for name in "ab"]
    await run(files, a_mapping(tmp_path), None, Broker(), progress=told.append)
    assert [each.rows for each in told] == sorted(each.rows for each in told)
    assert told[-1].rows == 6 * records_per_transaction_max
    assert told[-1].bytes_read == told[-1].bytes_total == sum(file.stat().st_size for file in files)
    assert told[0].rows_per_second > 0


async def test_a_dry_run_counts_what_would_be_and_needs_no_store(tmp_path):
    summary = await run([a_file(tmp_path, expenses(5) + "x\n")], a_mapping(tmp_path), None, Broker())
    assert summary.as_dict()["accepted"] == 5
    assert summary.as_dict()["rejected"] == 1
    assert summary.as_dict()["dry_run"] is True
    assert summary.as_dict()["amounts"]["EUR"]["accepted"] == "17.50"


async def test_a_large_and_thoroughly_damaged_file_loses_nothing_but_its_damaged_rows(tmp_path, database):
    lines = expenses(4000).encode().splitlines(keepends=True)
    damage = {
        100: b"E-100,2026-13-45,1.00,bad date\n",
        200: b"E-200,2026-01-01,1.0.0,bad number\n",
        300: b"E-300,2026-01-01,1.00,\xff\xfe\n",
        400: b"x" * 10_000_000 + b"\n",
        500: b'E-500,2026-01-01,1.00,"never closed\n',
        600: b"E-600,2026-01-01\n",
        700: b"E-700,2026-01-01,1.00,a\0b\n",
    }
    for number, line in damage.items():
        lines[number] = line
    file, listed = a_file(tmp_path, b"".join(lines), "damaged.csv.gz"), tmp_path / "rejects.csv"
    summary = await run([file], a_mapping(tmp_path), database, Broker(), rejects=listed)
    assert (summary.sheet.accepted, summary.sheet.rejected) == (4000 - len(damage), len(damage))
    assert [int(row["row"]) for row in lines_of(listed)] == list(damage)
    assert summary.sheet.read == 4000


def test_check_shows_mapped_records_and_problems_without_a_store(tmp_path):
    file = a_file(tmp_path, expenses(10) + "x,2026-01-01,much,?\n")
    (checked,) = check(a_mapping(tmp_path), [file])
    assert [sample.subject for sample in checked.samples] == ["E-1", "E-2", "E-3"]
    assert checked.samples[0].fields["amount"] == Decimal("1.50")
    assert (checked.rows, checked.mapped, checked.rejected, checked.is_good) == (11, 10, 1, False)
    assert (checked.problems[0].row, checked.problems[0].column) == (11, "amount")
    assert checked.columns_unused == ("note",)


def test_check_is_not_good_when_the_filter_leaves_nothing(tmp_path):
    mapping = a_mapping(tmp_path, top='where = { note = "no such note" }')
    (checked,) = check(mapping, [a_file(tmp_path, expenses(10))])
    assert (checked.filtered, checked.mapped, checked.is_good) == (10, 0, False)


async def test_a_project_that_is_closed_is_new_content(tmp_path, database):
    project = 'document_type = "project"\nsource = "test"\nid = "id"\n[fields]\nname = "id"\nstatus = "s"'
    for state in ("active", "closed"):
        await run([a_file(tmp_path, f"id,s\nP,{state}\n")], a_mapping(tmp_path, project), database, Broker())
    assert len({row["fingerprint"] for row in await rows_of(database, records)}) == 2


def test_the_fingerprint_takes_every_approved_state_for_the_same(tmp_path):
    prints = {state: fingerprint(tmp_path, state) for state in ("approved", "Paid", "rejected", "draft")}
    assert prints["approved"] == prints["Paid"]
    assert len({prints["approved"], prints["rejected"], prints["draft"]}) == 3
    assert fingerprint(tmp_path, "Paid", ("approved",)) != prints["approved"]


def fingerprint(folder: Path, state: str, approved: tuple[str, ...] = ("approved", "invoiced", "paid")) -> str:
    mapping = a_mapping(folder, fields='status = "s"')
    mapped, _, _ = translate(a_file(folder, f"id,date,amount,s\nE,2026-01-01,5,{state}\n"), mapping)
    started = datetime(2026, 1, 1, tzinfo=UTC)
    origin = Origin(mapping=mapping, settings=SETTINGS, lane=BULK, started=started, approved_states=approved)
    return origin.record(mapped[0], 1).fingerprint


@pytest.mark.parametrize("read", ["export.csv", "mapping.toml"])
async def test_rejects_are_never_written_over_what_is_read(tmp_path, read):
    file, mapping = a_file(tmp_path, expenses(2)), a_mapping(tmp_path)
    target = file if read == "export.csv" else mapping.path
    before = target.read_bytes()
    with pytest.raises(UnreadableFile, match="name another file"):
        await run([file], mapping, None, Broker(), rejects=target)
    assert target.read_bytes() == before


def test_check_shows_all_columns_at_fault_and_each_kind_of_fault_a_few_times(tmp_path):
    file = a_file(tmp_path, "id,date,amount\n" + "E,31.12.2025,7:30\n" * 50)
    (checked,) = check(a_mapping(tmp_path), [file])
    assert checked.rejected == 50
    assert [(problem.row, problem.column) for problem in checked.problems] == [
        (row, column) for row in (1, 2, 3) for column in ("date", "amount")
    ]
    assert "duration" in checked.problems[1].reason
