"""The translator for master data: the canonical document as it is."""

from datetime import UTC, date, datetime

import msgspec
import pytest

from connectors.masterdata import MasterDataTranslator
from contracts.base import Contract
from contracts.channels import Attribution, Enriched, TargetDocument
from contracts.customer import Customer
from contracts.envelope import Envelope, Item
from contracts.money import NOTHING
from contracts.project import Project, Task
from contracts.time_entry import TimeEntry
from contracts.worker import Worker
from pipeline.codes import TARGET_REFUSED
from pipeline.errors import PermanentError
from pipeline.reference import Reference
from pipeline.rules import Rules
from pipeline.stage import Context

NOW = datetime(2026, 3, 5, 12, tzinfo=UTC)


def translated(document: Contract) -> TargetDocument:
    context = Context(
        envelope=Envelope(id="m", source="openair", type="project.v1", time=NOW, lane="live"),
        item=Item(id="r", subject="1", revision="1", correlationid="c", body=msgspec.Raw(b"{}")),
        reference=Reference(),
        rules=Rules(),
        now=NOW,
    )
    about = Attribution(legal_entity="DE", amount=NOTHING, entity_amount=NOTHING)
    return MasterDataTranslator().translate(Enriched(document=document, attribution=about), "ref", context)


def test_the_body_decodes_to_the_document() -> None:
    project = Project(id="P-100", name="Bridge", tasks=(Task(id="T-1", name="Design"),), valid_from=date(2026, 1, 1))
    document = translated(project)
    assert msgspec.json.decode(document.body, type=Project) == project
    assert (document.target, document.kind, document.reference) == ("masterdata", "project.v1", "ref")
    assert (document.amount, document.legal_entity, document.date) == (NOTHING, "DE", date(2026, 1, 1))


def test_the_date_is_the_day_it_holds_from_else_today() -> None:
    assert translated(Worker(id="W-7", hired_on=date(2020, 1, 1))).date == date(2020, 1, 1)
    effective = Worker(id="W-7", hired_on=date(2020, 1, 1), effective_from=date(2026, 4, 1))
    assert translated(effective).date == date(2026, 4, 1)
    assert translated(Customer(id="C-3", name="C")).date == NOW.date()


def test_a_time_entry_is_no_master_data() -> None:
    with pytest.raises(PermanentError) as refusal:
        translated(TimeEntry(id="1", worker="W", date=NOW.date(), hours=1))
    assert refusal.value.code == TARGET_REFUSED
