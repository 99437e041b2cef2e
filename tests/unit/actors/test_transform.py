"""Transform: one document per target that routing names."""

from datetime import date, timedelta

import msgspec
import pytest
from msgspec.structs import replace

from actors.transform import transform
from contracts.channels import Enriched, TargetDocument
from pipeline.errors import PermanentError, TransientError
from pipeline.rules import Route, Rules
from pipeline.stage import Context
from tests.unit.actors.builders import DAY, NOW, a_context, a_project, a_target_document, an_entry, enriched


class NamingTranslator:
    """Writes down for which target, reference and subject it was asked."""

    def __init__(self, target: str) -> None:
        self.target = target

    def translate(self, enriched: Enriched, reference: str, context: Context) -> TargetDocument:
        body = msgspec.Raw(msgspec.json.encode({"subject": context.item.subject, "id": enriched.document.id}))
        return a_target_document(reference, target=self.target, amount=enriched.attribution.amount, body=body)


TRANSLATORS = {name: NamingTranslator(name) for name in ("ledger", "payroll", "masterdata")}


def context_of(document: object, *routing: Route) -> Context:
    return a_context(document, rules=Rules(routing=routing), translators=TRANSLATORS)


def targets(document: object, *routing: Route, legal_entity: str = "MAIN") -> list[str]:
    return [one.target for one in transform(enriched(document, legal_entity), context_of(document, *routing))]


def test_every_target_gets_a_document_of_its_own_under_its_own_posting_key():
    entry = an_entry()
    route = Route(document_type="time_entry", targets=("ledger", "payroll"))
    ledger, payroll = transform(enriched(entry), context_of(entry, route))
    assert ledger.reference == "ledger/time_entry.v1/psa/T-1/2"
    assert payroll.reference == "payroll/time_entry.v1/psa/T-1/2"
    assert bytes(ledger.body) == b'{"subject":"T-1","id":"T-1"}'


def test_the_first_rule_that_fits_type_entity_and_date_decides():
    routing = (
        Route(document_type="time_entry", legal_entity="CH01", targets=("payroll",)),
        Route(document_type="time_entry", valid_to=DAY - timedelta(days=1), targets=("payroll", "ledger")),
        Route(document_type="*", targets=("ledger",)),
    )
    assert targets(an_entry(), *routing, legal_entity="CH01") == ["payroll"]
    assert targets(an_entry(), *routing) == ["ledger"]
    assert targets(an_entry(date=date(2026, 2, 1)), *routing) == ["payroll", "ledger"]


def test_master_data_is_routed_by_today():
    yesterday = NOW.date() - timedelta(days=1)
    routing = (
        Route(document_type="project", valid_to=yesterday, targets=("payroll",)),
        Route(document_type="project", targets=("ledger",)),
    )
    assert targets(a_project(), *routing) == ["masterdata", "ledger"]


def test_without_a_rule_the_record_goes_nowhere_and_says_so():
    with pytest.raises(PermanentError) as caught:
        targets(an_entry(), Route(document_type="expense", targets=("ledger",)), legal_entity="DE01")
    assert caught.value.code.name == "NO_ROUTE"
    assert all(word in str(caught.value) for word in ("time_entry.v1", "DE01", "2026-03-04"))


def test_a_target_that_is_not_connected_is_named():
    with pytest.raises(PermanentError) as caught:
        targets(an_entry(), Route(document_type="*", targets=("ledger", "netsuite")))
    assert caught.value.code.name == "NO_ROUTE"
    assert "'netsuite'" in str(caught.value)
    assert "ledger, masterdata, payroll" in str(caught.value)
    assert "tieout target add netsuite" in str(caught.value)


def test_a_target_of_a_kind_that_is_not_known_here_is_waited_for():
    entry, route = an_entry(), Route(document_type="*", targets=("ledger", "vault"))
    context = replace(context_of(entry, route), unopened={"vault": "no kind of target 'safe'"})
    with pytest.raises(TransientError, match="'safe'") as caught:
        transform(enriched(entry), context)
    assert not caught.value.burns_attempt
