"""The message on the wire: readable by any Dramatiq, its batch encoded once and decoded late."""

from datetime import UTC, date, datetime
from itertools import islice

import dramatiq
import msgspec
import pytest

from broker.backoff import pauses_s
from broker.dead_letters import read_dead_letter
from broker.delivery import DeadDelivery, own_headers
from broker.embedded import EmbeddedBroker
from broker.encoding import Undecodable, batch_in, decode_message, encode_batch, encode_message
from contracts.envelope import Batch, Envelope, Item

BATCH = Batch(
    envelope=Envelope(id="m-1", source="psa", type="time_entry.v1", time=datetime(2026, 1, 2, tzinfo=UTC), lane="live"),
    items=(Item(id="r-1", subject="s", revision="1", correlationid="c", body=msgspec.Raw(b'{"hours":"7.50"}')),),
)


def a_broker() -> EmbeddedBroker:
    broker = EmbeddedBroker()

    @dramatiq.actor(broker=broker, actor_name="validate", queue_name="validate.live", raw=True)
    def validate(batch: bytes) -> None:
        pass

    @dramatiq.actor(broker=broker, queue_name="notices")
    def notice(day: str, *, count: int) -> None:
        pass

    return broker


def test_a_stock_dramatiq_worker_could_read_a_stages_message() -> None:
    message = dramatiq.Message.decode(encode_batch("validate.live", "validate", BATCH))
    assert (message.actor_name, message.queue_name, message.message_id) == ("validate", "validate.live", "m-1")
    assert message.args[0]["items"][0]["body"] == {"hours": "7.50"}


def test_a_stages_argument_stays_bytes_until_the_runner_reads_it() -> None:
    body = encode_batch("validate.live", "validate", BATCH)
    (argument,) = decode_message(body, "validate.live", a_broker().get_actor).args
    assert isinstance(argument, bytes)
    assert msgspec.json.decode(argument, type=Batch) == BATCH


def test_any_actors_arguments_survive() -> None:
    broker = a_broker()
    sent = broker.actors["notice"].message(date(2026, 1, 2), count=3)
    read = decode_message(encode_message(sent), "notices", broker.get_actor)
    assert (read.args, read.kwargs) == (("2026-01-02",), {"count": 3})


def test_a_message_belongs_to_the_queue_it_came_from() -> None:
    body = encode_batch("elsewhere.live", "validate", BATCH)
    assert decode_message(body, "validate.live", a_broker().get_actor).queue_name == "validate.live"


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b'{"actor_name":"validate"}'], ids=repr)
def test_what_is_no_message_is_undecodable(body: bytes) -> None:
    with pytest.raises(Undecodable):
        decode_message(body, "validate.live", a_broker().get_actor)
    assert batch_in(body) is None


def test_an_unknown_actor_is_undecodable() -> None:
    with pytest.raises(Undecodable, match="stranger"):
        decode_message(encode_batch("validate.live", "stranger", BATCH), "validate.live", a_broker().get_actor)


def test_the_servers_own_headers_are_not_sent_back() -> None:
    headers = {"source": "psa", "x-requeues": 1, "x-death": [], "x-first-death-queue": "q", "x-delivery-count": 3}
    assert own_headers(headers) == {"source": "psa", "x-requeues": 1}


@pytest.mark.parametrize(
    "headers", [{}, {"x-death": "odd"}, {"x-death": []}, {"x-death": [{"count": "many"}]}], ids=repr
)
def test_a_dead_letter_is_readable_whatever_its_headers_say(headers: dict[str, object]) -> None:
    letter = read_dead_letter(
        DeadDelivery(
            body=b"?",
            headers=headers,
            routing_key="validate.technical.it.BROKER",
            message_id=None,
            type="dead_letter.v1",
            acknowledge=lambda: None,
            lost=lambda: False,
        )
    )
    assert (letter.stage, letter.reason, letter.deaths, letter.letter) == ("validate", "unknown", 1, None)


def test_pauses_grow_and_stay_within_their_bound() -> None:
    pauses = list(islice(pauses_s(100, 1_000), 8))
    assert 0.05 <= pauses[0] <= 0.1
    assert all(0.5 <= pause <= 1.0 for pause in pauses[4:])
