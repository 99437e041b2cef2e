"""Every system's way of saying no, as it really reads, and what follows from it."""

import pytest

from connectors.http.errors import COMMON, Fault, fault_of, item_faults
from connectors.http.outcome import TargetRefused, error_for
from connectors.http.secrets import Redactor
from tests.unit.connectors.http.calling import answer
from tests.unit.connectors.http.platforms import DYNAMICS, NETSUITE, ODOO, OPENAIR, SALESFORCE, TRYTON
from tests.unit.connectors.http.refusals import REFUSALS
from tests.unit.connectors.http.refusals_open import OPEN_REFUSALS


@pytest.mark.parametrize("refusal", [*REFUSALS, *OPEN_REFUSALS], ids=lambda refusal: refusal.name)
def test_a_fault_is_read_where_the_system_puts_it(refusal):
    fault = fault_of(answer(refusal.status, refusal.body), refusal.shape, Redactor())
    assert fault == refusal.fault
    error = error_for(fault, "erp", writes=True, rules=refusal.shape.rules)
    if isinstance(refusal.outcome, type):
        assert type(error) is refusal.outcome
    else:
        assert isinstance(error, TargetRefused)
        assert (error.code, error.fault) == (refusal.outcome, fault)
    assert fault.message in str(error)


@pytest.mark.parametrize(
    ("shape", "status", "body"),
    [
        (TRYTON, 200, {"id": 3, "result": [1]}),
        (TRYTON, 200, {"id": 3, "result": None}),
        (ODOO, 200, [16]),
        (ODOO, 200, "true"),
        (SALESFORCE, 201, {"id": "001", "errors": [], "success": True}),
        (NETSUITE, 204, ""),
        (DYNAMICS, 201, {"@odata.context": "x", "error": None}),
    ],
)
def test_what_succeeded_has_no_fault(shape, status, body):
    assert fault_of(answer(status, body), shape, Redactor()) is None


def test_salesforce_collections_say_it_per_item_with_200():
    body = [
        {"id": "1", "success": True, "errors": []},
        {
            "success": False,
            "errors": [{"statusCode": "REQUIRED_FIELD_MISSING", "message": "missing", "fields": ["Name"]}],
        },
    ]
    whole = answer(200, body)
    assert fault_of(whole, SALESFORCE, Redactor()) is None
    done, refused = item_faults(whole, SALESFORCE, 2, Redactor())
    assert done is None
    assert refused == Fault(status=200, code="REQUIRED_FIELD_MISSING", field="Name", message="missing", item=1)
    assert isinstance(error_for(refused, "sf", writes=True), TargetRefused)


def test_a_multi_status_answer_has_a_status_for_each_item():
    body = {"message": "partial", "data": [{"status": 201, "id": 7}, {"status": "400", "message": "bad date"}]}
    whole = answer(207, body)
    assert fault_of(whole, OPENAIR, Redactor()) is None
    done, refused = item_faults(whole, OPENAIR, 2, Redactor())
    assert (done, refused) == (None, Fault(status=400, message="bad date", item=1))


@pytest.mark.parametrize("body", [[], [{"success": True}], {}, "", "<html>", [[]]])
def test_a_bulk_answer_that_does_not_add_up_says_nothing(body):
    with pytest.raises(ValueError, match="2 items were sent in bulk and"):
        item_faults(answer(200, body), SALESFORCE, 2, Redactor())


def test_a_long_message_is_cut_and_a_page_is_read_as_words():
    page = "<style>p{}</style><script>let x=1</script><!-- no --><p>Line&nbsp;one<br>two\x00" + "z" * 2000
    fault = fault_of(answer(400, page), COMMON, Redactor())
    assert fault is not None
    assert fault.message.startswith("Line one two")
    assert len(fault.message) == 500
