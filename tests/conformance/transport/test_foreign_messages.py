"""Anybody may publish to a queue: whatever it is ends as a dead letter, and its neighbours are done meanwhile."""

from typing import Any

import msgspec
import pytest

from broker.delivery import DUE, FAULTS, REQUEUES, DeliveryInfo, Outgoing
from broker.encoding import encode_batch
from tests.conformance.transport.conftest import Rig, a_batch, a_message, subject_of, until

NESTED = b'{"queue_name":"q","actor_name":"first","args":[' + b"[" * 200_000 + b"]" * 200_000 + b'],"kwargs":{}}'


def with_options(**options: Any) -> bytes:
    message = msgspec.json.decode(encode_batch("first.live", "first", a_batch("foreign")))
    return msgspec.json.encode(message | {"options": options})


def foreign(body: bytes, **headers: Any) -> Outgoing:
    return Outgoing(queue="first.live", body=body, message_id="foreign", headers=headers)


async def test_what_cannot_be_read_takes_nothing_with_it(rig: Rig) -> None:
    done: list[str] = []
    await rig.open(lambda stage, body, info: done.append(subject_of(body)))
    huge = with_options(eta=0).replace(b'"eta":0', b'"eta":' + b"9" * 400)
    for body in (NESTED, b"\xff\xfe", b"[]", huge):
        await rig.broker.put([foreign(body)])
    await rig.publisher.publish([a_message("neighbour")])
    await until(lambda: "neighbour" in done)
    await until(lambda: rig.broker.counts.rejected >= 3)
    assert rig.broker.counts.stale == 0


@pytest.mark.parametrize(
    ("options", "headers"),
    [
        ({"max_retries": "3"}, {}),
        ({"throws": "ValueError"}, {}),
        ({}, {REQUEUES: 2**63 - 1}),
        ({}, {FAULTS: 2**63 - 1}),
    ],
    ids=["retries", "throws", "requeues", "faults"],
)
async def test_a_failing_message_with_nonsense_about_itself_is_still_decided(
    rig: Rig, options: dict[str, Any], headers: dict[str, Any]
) -> None:
    def handle(stage: str, body: bytes, info: DeliveryInfo) -> None:
        if subject_of(body) == "foreign":
            raise ValueError("no")

    await rig.open(handle)
    await rig.broker.put([foreign(with_options(**options), **headers)])
    await until(lambda: rig.broker.counts.requeued + rig.broker.counts.rejected == 1)
    await until(lambda: not any(consumer.started for consumer in rig.broker.consumers))


async def test_a_due_time_beyond_all_time_is_a_dead_letter_or_waits(rig: Rig) -> None:
    await rig.open(lambda stage, body, info: None)
    await rig.broker.put([foreign(with_options(eta=1e300)), foreign(with_options(), **{DUE: 2**63 - 1})])
    await rig.publisher.publish([a_message("neighbour")])
    await until(lambda: rig.broker.counts.acknowledged >= 1)
    assert rig.broker.counts.stale == 0
