"""Reference data and master data, on SQLite and PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from datetime import date

import msgspec
import pytest
from sqlalchemy import event

from contracts.channels import TargetDocument
from contracts.project import Project
from contracts.worker import Worker
from pipeline.errors import TransientError
from pipeline.reference import Mapping
from store.database import Database
from store.masterdata import MasterData
from store.outbox import Outbox
from store.postings import StorePostings
from store.reference import ReferenceStore
from store.tables import mappings
from tests.conformance.store.ledger_cases import accept, document, rows

FALLBACK = {"expense_account": {"*": "6200", "Taxi": "6210"}}
APRIL, MAY, JUNE = date(2026, 4, 15), date(2026, 5, 15), date(2026, 6, 15)


@pytest.fixture
async def reference(database: Database) -> ReferenceStore:
    return ReferenceStore(database, FALLBACK)


@pytest.fixture
async def masters(database: Database) -> AsyncIterator[MasterData]:
    target = MasterData(database)
    yield target
    await target.close()


def a_project(
    project_id: str, name: str = "Apollo", *, record_id: str | None = None, revision: str = "1"
) -> TargetDocument:
    body = msgspec.to_builtins(Project(id=project_id, name=name))
    name = record_id or f"record of {project_id}"
    return document(name, revision=revision, target="masterdata", document_type="project.v1", body=body)


async def account(reference: ReferenceStore, on: date, key: str = "Taxi") -> str | None:
    await reference.refresh()
    return reference.snapshot.mapping("expense_account", key, on)


async def test_the_fallback_holds_until_the_table_says_otherwise(reference: ReferenceStore) -> None:
    assert reference.snapshot.mapping("expense_account", "Hotel", MAY) == "6200"
    await reference.set_mapping("expense_account", "Taxi", "6999", None, None, "ann")
    assert await account(reference, MAY) == "6999"
    assert await reference.unset_mapping("expense_account", "Taxi", "ann") == 1
    assert await account(reference, MAY) == "6210"


async def test_a_mapping_from_a_day_ends_the_one_before_it_the_day_before(reference: ReferenceStore) -> None:
    await reference.set_mapping("expense_account", "Taxi", "1", None, None, "ann")
    await reference.set_mapping("expense_account", "Taxi", "2", date(2026, 5, 1), None, "bob")
    assert [await account(reference, day) for day in (APRIL, date(2026, 4, 30), date(2026, 5, 1), JUNE)] == list("1122")
    assert [(row.value, row.valid_from, row.valid_to, row.changed_by) for row in await reference.list_mappings()] == [
        ("1", None, date(2026, 4, 30), "ann"),
        ("2", date(2026, 5, 1), None, "bob"),
    ]


async def test_a_mapping_in_the_middle_cuts_the_one_around_it(reference: ReferenceStore) -> None:
    await reference.set_mapping("expense_account", "Taxi", "1", None, None, "ann")
    await reference.set_mapping("expense_account", "Taxi", "2", date(2026, 5, 1), date(2026, 5, 31), "ann")
    assert [await account(reference, day) for day in (APRIL, MAY, JUNE)] == ["1", "2", "1"]


async def test_a_mapping_takes_the_place_of_those_it_covers_and_the_table_keeps_them(
    database: Database, reference: ReferenceStore
) -> None:
    await reference.set_mapping("expense_account", "Taxi", "1", date(2026, 5, 1), date(2026, 5, 31), "ann")
    await reference.set_mapping("expense_account", "Taxi", "2", None, None, "ann")
    assert [row.value for row in await reference.list_mappings("expense_account")] == ["2"]
    assert [(row["value"], row["deleted"]) for row in await rows(database, mappings)] == [("1", True), ("2", False)]


async def test_many_mappings_are_one_version(reference: ReferenceStore) -> None:
    await reference.set_mappings(
        [Mapping(kind="worker:sap", key=str(number), value=f"W-{number}") for number in range(20)], "ann"
    )
    await reference.refresh()
    assert reference.snapshot.version == 1
    assert reference.snapshot.mapping("worker:sap", "7", MAY) == "W-7"
    assert len(await reference.list_mappings("worker:sap")) == 20
    assert await reference.list_mappings("none") == []


async def test_a_mapping_that_ends_before_it_begins_is_refused(reference: ReferenceStore) -> None:
    with pytest.raises(ValueError, match="before it begins"):
        await reference.set_mapping("k", "a", "b", MAY, APRIL, "ann")


async def test_a_period_is_closed_and_reopened(reference: ReferenceStore) -> None:
    await reference.set_period("ACME", "2026-05", True, "ann")
    await reference.refresh()
    assert reference.snapshot.period_closed("ACME", MAY)
    assert not reference.snapshot.period_closed("OTHER", MAY)
    await reference.set_period("ACME", "2026-05", False, "bob")
    await reference.refresh()
    assert not reference.snapshot.period_closed("ACME", MAY)
    assert [(row.name, row.closed, row.changed_by) for row in await reference.list_periods()] == [
        ("2026-05", False, "bob")
    ]


async def test_a_snapshot_in_use_does_not_change(reference: ReferenceStore, masters: MasterData) -> None:
    before = reference.snapshot
    await masters.post(a_project("P-1"))
    await reference.set_mapping("expense_account", "Taxi", "6999", None, None, "ann")
    await reference.refresh()
    assert (before.find(Project, "P-1"), before.version) == (None, 0)
    assert before.mapping("expense_account", "Taxi", MAY) == "6210"
    assert reference.snapshot.find(Project, "P-1") == Project(id="P-1", name="Apollo")


async def test_only_what_changed_is_loaded(reference: ReferenceStore, masters: MasterData) -> None:
    await masters.post(a_project("P-1"))
    await reference.refresh()
    first = reference.snapshot
    await reference.refresh()
    assert reference.snapshot is first
    await masters.post(a_project("P-2"))
    await reference.refresh()
    assert reference.snapshot.find(Project, "P-1") is first.find(Project, "P-1")
    assert reference.snapshot.find(Project, "P-2") is not None


async def test_a_caller_sees_what_was_committed_before_it_asked(database: Database, masters: MasterData) -> None:
    reference = ReferenceStore(database)

    async def write_then_look(number: int) -> bool:
        await masters.post(a_project(f"P-{number}"))
        await reference.refresh()
        return reference.snapshot.has(f"project.v1:P-{number}")

    assert all(await asyncio.gather(*(write_then_look(number) for number in range(40))))


async def test_callers_of_one_moment_share_a_query(database: Database, reference: ReferenceStore) -> None:
    queries = 0

    def executed(*arguments: object) -> None:
        nonlocal queries
        queries += "reference_clock" in str(arguments[2])

    event.listen(database._reads.sync_engine, "before_cursor_execute", executed)
    await asyncio.gather(*(reference.refresh() for _ in range(50)))
    # The first caller's query, and one that began after the others had asked.
    assert queries <= 2


async def test_a_version_that_has_been_seen_needs_no_query_and_one_from_the_future_is_waited_for(
    reference: ReferenceStore,
) -> None:
    await reference.set_period("ACME", "2026-05", True, "ann")
    await reference.refresh(1)
    assert reference.snapshot.version == 1
    with pytest.raises(TransientError, match="not here yet"):
        await reference.refresh(2)


async def test_master_data_posted_at_once_shares_a_transaction_and_counts(
    reference: ReferenceStore, masters: MasterData
) -> None:
    await asyncio.gather(*(masters.post(a_project(f"P-{number}")) for number in range(50)))
    await reference.refresh()
    assert reference.snapshot.version <= 2
    assert [(total.document_type, total.count) for total in await masters.totals()] == [("project.v1", 50)]


async def test_master_data_is_read_back_by_its_reference(masters: MasterData) -> None:
    posted = a_project("P-1")
    sent = await masters.post(posted)
    found = await masters.find(posted.reference)
    assert found is not None
    assert found.fields == msgspec.json.decode(posted.body)
    assert (found.receipt.target_id, sent.target_id) == ("project.v1:P-1",) * 2
    assert await masters.find("nothing") is None


async def test_an_older_revision_does_not_overwrite_a_newer_one(
    database: Database, reference: ReferenceStore, masters: MasterData
) -> None:
    postings = StorePostings(database, Outbox(database), worker="w", rows_max=10, on_outbox=lambda _rows: None)
    wanted = {}
    for record_id, revision in [("p9", "9"), ("p10", "10")]:
        await accept(database, record_id, revision=revision, document_type="project.v1")
        wanted[revision] = a_project("P-1", f"revision {revision}", record_id=record_id, revision=revision)
        await postings.intend(record_id, wanted[revision], 0)
    for revision in ("9", "10", "9"):
        await masters.post(wanted[revision])
    await reference.refresh()
    project = reference.snapshot.find(Project, "P-1")
    assert project is not None
    assert project.name == "revision 10"
    await postings.close()


async def test_kinds_of_master_data_with_the_same_id_are_kept_apart(
    reference: ReferenceStore, masters: MasterData
) -> None:
    await masters.post(a_project("X-1"))
    body = msgspec.to_builtins(Worker(id="X-1"))
    await masters.post(document("w", target="masterdata", document_type="worker.v1", body=body))
    await reference.refresh()
    assert reference.snapshot.find(Worker, "X-1") is not None
    assert reference.snapshot.find(Project, "X-1") is not None
