"""Customers in a real Tryton: parties of ours, told from others, made once, written over by later revisions."""

import asyncio

import pytest

from connectors.tryton import TrytonTarget, TrytonTranslator
from contracts.channels import TargetDocument
from contracts.customer import Customer
from contracts.money import NOTHING
from pipeline.codes import TARGET_REFERENCE_MISSING, TARGET_REFUSED
from pipeline.errors import PermanentError
from pipeline.ports import Total
from tests.conformance.tryton.conftest import Open
from tests.conformance.tryton.masters import context, customer, enriched, is_as_sent, worker
from tests.erp.calls import Caller


async def count(target: TrytonTarget) -> int:
    return sum(total.count for total in await target.totals())


async def test_a_customer_is_made_once_and_read_back_as_it_was_sent(target: TrytonTarget, name: str):
    document = customer(f"C-{name}", target=name, legal_name="Acme & Söhne GmbH", email="pay@acme.example")
    first, second = await target.post(document), await target.post(document)
    assert (first.target_id, first.state) == (second.target_id, "posted")
    assert is_as_sent(await target.find(document.reference), document)
    assert await target.totals() == [Total(document_type="customer.v1", amount=NOTHING, count=1)]
    assert await target.find(document.reference + "0") is None


async def test_the_same_customers_from_two_processes_at_once_are_made_once(open_target: Open, name: str):
    ours, theirs = open_target(), open_target()
    documents = [customer(f"C-{name}-{number}", target=name) for number in range(30)]
    posts = [one.post(document) for document in documents for one in (ours, theirs, ours)]
    receipts = await asyncio.gather(*posts)
    assert len({receipt.target_id for receipt in receipts}) == 30
    assert await count(ours) == 30


async def test_a_later_revision_writes_the_same_party_and_takes_the_place_of_the_earlier_one(
    target: TrytonTarget, name: str
):
    old = customer(f"C-{name}", target=name, email="old@acme.example")
    new = customer(f"C-{name}", 2, target=name, name="Acme of today")
    before = await target.post(old)
    after = await target.post(new)
    assert after.target_id == before.target_id
    assert await target.find(old.reference) is None
    found = await target.find(new.reference)
    assert is_as_sent(found, new)
    assert found is not None
    assert found.fields["email"] is None
    assert await count(target) == 1


async def test_revisions_that_arrive_together_are_written_one_after_the_other(target: TrytonTarget, name: str):
    documents = [customer(f"C-{name}", revision, target=name, name=f"Acme {revision}") for revision in (1, 2, 3)]
    receipts = await asyncio.gather(*(target.post(document) for document in documents))
    assert len({receipt.target_id for receipt in receipts}) == 1
    assert is_as_sent(await target.find(documents[-1].reference), documents[-1])


async def test_what_others_changed_is_written_again_and_what_they_added_stays(
    target: TrytonTarget, name: str, call: Caller
):
    document = customer(f"C-{name}", target=name, email="pay@acme.example")
    number = int((await target.post(document)).target_id.partition(",")[2])
    phone = {"type": "phone", "value": "+41446681800", "name": "desk"}
    call("party.party.write", [number], {"name": "Renamed", "contact_mechanisms": [["create", [phone]]]})
    await target.post(document)
    assert is_as_sent(await target.find(document.reference), document)
    (party,) = call("party.party.read", [number], ["contact_mechanisms.name"])
    assert {one["name"] for one in party["contact_mechanisms."]} == {"tieout", "desk"}


async def test_a_party_that_people_gave_our_id_is_taken_over(target: TrytonTarget, name: str, call: Caller):
    identifiers = [["create", [{"type": None, "code": f"C-{name}"}]]]
    (number,) = call("party.party.create", [{"name": "Acme", "identifiers": identifiers}])
    document = customer(f"C-{name}", target=name)
    assert (await target.post(document)).target_id == f"party.party,{number}"
    assert is_as_sent(await target.find(document.reference), document)


async def test_two_parties_that_people_gave_our_id_are_left_to_them(target: TrytonTarget, name: str, call: Caller):
    identifiers = [["create", [{"type": None, "code": f"C-{name}"}]]]
    call("party.party.create", [{"name": name, "identifiers": identifiers} for name in ("Acme", "Acme again")])
    neighbour = customer(f"D-{name}", target=name)
    refusal, receipt = await asyncio.gather(
        target.post(customer(f"C-{name}", target=name)), target.post(neighbour), return_exceptions=True
    )
    assert isinstance(refusal, PermanentError)
    assert "several parties could be customer" in str(refusal)
    assert not isinstance(receipt, BaseException)


async def test_an_id_of_digits_is_not_taken_for_a_number_of_trytons_own(target: TrytonTarget, name: str, call: Caller):
    (number,) = call("party.party.create", [{"name": "Somebody else"}])
    (party,) = call("party.party.read", [number], ["code"])
    for taken in (party["code"], str(int(party["code"]) + 1000)):
        document = customer(taken, target=name)
        receipt = await target.post(document)
        assert receipt.target_id != f"party.party,{number}"
        assert is_as_sent(await target.find(document.reference), document)
        (ours,) = call("party.party.read", [int(receipt.target_id.partition(",")[2])], ["code"])
        assert ours["code"] == f"customer-{taken}"
    assert call("party.party.read", [number], ["name"])[0]["name"] == "Somebody else"


async def test_a_customer_and_a_worker_of_the_same_id_are_two(target: TrytonTarget, name: str):
    person, firm = worker(f"X-{name}", target=name), customer(f"X-{name}", target=name)
    await target.post(person)
    await target.post(firm)
    assert is_as_sent(await target.find(person.reference), person)
    assert is_as_sent(await target.find(firm.reference), firm)


def with_terms(key: str, target: str, terms: str) -> TargetDocument:
    document = enriched(Customer(id=key, name="Acme", payment_terms="30"))
    reference = f"{target}/customer.v1/psa/{key}/1"
    return TrytonTranslator(target).translate(document, reference, context(target, payment_term=terms))


async def test_a_payment_term_is_carried_by_its_name_in_tryton(target: TrytonTarget, name: str):
    document = with_terms(f"C-{name}", name, "Net 30")
    await target.post(document)
    found = await target.find(document.reference)
    assert is_as_sent(found, document)
    assert found is not None
    assert found.fields["payment_term"] == "Net 30"
    with pytest.raises(PermanentError, match="no payment term 'Never'") as refusal:
        await target.post(with_terms(f"D-{name}", name, "Never"))
    assert refusal.value.code == TARGET_REFERENCE_MISSING


async def test_a_customer_is_not_taken_back(target: TrytonTarget, name: str):
    document = customer(f"C-{name}", target=name)
    await target.post(document)
    with pytest.raises(PermanentError, match="deactivate it in Tryton") as refusal:
        await target.reverse(document.reference, "made by mistake")
    assert refusal.value.code == TARGET_REFUSED


async def test_an_id_of_any_signs_is_found_again(target: TrytonTarget, name: str):
    document = customer(f"C {name}/[1] 100%_ö\\", target=name)
    await target.post(document)
    await target.post(document)
    assert is_as_sent(await target.find(document.reference), document)
    assert await count(target) == 1
