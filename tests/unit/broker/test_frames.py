"""The frames written and read past pika's objects are pika's own, byte for byte and value for value."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import frame, spec
from pika.exceptions import ShortStringTooLong

from broker import frames

THEN = datetime(2026, 1, 1, tzinfo=UTC)

short_texts = st.text(max_size=60)
octets = st.integers(0, 255)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=20) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(short_texts, inner, max_size=3),
    max_leaves=8,
)
tables = st.dictionaries(short_texts, values, max_size=6)
properties = st.builds(
    spec.BasicProperties,
    content_type=st.none() | short_texts,
    content_encoding=st.none() | short_texts,
    headers=st.none() | tables,
    delivery_mode=st.none() | octets,
    priority=st.none() | octets,
    correlation_id=st.none() | short_texts,
    reply_to=st.none() | short_texts,
    expiration=st.none() | short_texts,
    message_id=st.none() | short_texts,
    timestamp=st.none() | st.integers(0, 2**64 - 1),
    type=st.none() | short_texts,
    user_id=st.none() | short_texts,
    app_id=st.none() | short_texts,
    cluster_id=st.none() | short_texts,
)


def frames_of_pika(
    channel: int, exchange: str, key: str, given: spec.BasicProperties, body: bytes, fragment_bytes_max: int
) -> bytes:
    method = spec.Basic.Publish(exchange=exchange, routing_key=key, mandatory=True)
    parts = [frame.Method(channel, method), frame.Header(channel, len(body), given)]
    parts += [
        frame.Body(channel, body[start : start + fragment_bytes_max])
        for start in range(0, len(body), fragment_bytes_max)
    ]
    return b"".join(part.marshal() for part in parts)


@given(st.integers(1, 2047), short_texts, short_texts, properties, st.binary(max_size=40), st.integers(8, 50))
def test_what_is_published_is_what_pika_would_send(
    channel: int, exchange: str, key: str, given: spec.BasicProperties, body: bytes, fragment_bytes_max: int
) -> None:
    written = b"".join(frames.publishing(channel, exchange, key, given, body, fragment_bytes_max))
    assert written == frames_of_pika(channel, exchange, key, given, body, fragment_bytes_max)


@given(properties, st.integers(0, 2**63))
def test_properties_are_read_as_pika_reads_them(given: spec.BasicProperties, size: int) -> None:
    marshalled = frame.Header(1, size, given).marshal()
    theirs = frame.decode_frame(marshalled)[1]
    ours, body_bytes = frames.read_header(marshalled, spec.FRAME_HEADER_SIZE)
    assert (ours.__dict__, body_bytes) == (theirs.properties.__dict__, theirs.body_size)


def test_headers_of_every_type_are_read_as_pika_reads_them() -> None:
    headers = {"when": THEN, "worth": Decimal("1.25"), "deaths": [{"count": 2, "queue": "q"}], "bytes": b"\xff\x00"}
    marshalled = frame.Header(1, 0, spec.BasicProperties(headers=headers)).marshal()
    ours, _ = frames.read_header(marshalled, spec.FRAME_HEADER_SIZE)
    assert ours.headers == frame.decode_frame(marshalled)[1].properties.headers


def test_what_equals_but_is_of_another_type_is_written_as_what_it_is() -> None:
    for value in (1, True, 1, True):
        given = spec.BasicProperties(headers={"same": value})
        assert b"".join(frames.publishing(1, "e", "k", given, b"", 100)) == frames_of_pika(1, "e", "k", given, b"", 100)


def test_headers_belong_to_whoever_is_given_them() -> None:
    headers = {"attempt": 1, "deaths": [{"count": 2}]}
    marshalled = frame.Header(1, 0, spec.BasicProperties(headers=headers)).marshal()
    first, _ = frames.read_header(marshalled, spec.FRAME_HEADER_SIZE)
    first.headers["attempt"] = 2
    first.headers["deaths"][0]["count"] = 3
    again, _ = frames.read_header(marshalled, spec.FRAME_HEADER_SIZE)
    assert again.headers == headers


@given(short_texts, st.integers(0, 2**63), st.booleans(), short_texts, short_texts)
def test_deliveries_are_read_as_pika_reads_them(
    consumer: str, tag: int, redelivered: bool, exchange: str, key: str
) -> None:
    marshalled = frame.Method(5, spec.Basic.Deliver(consumer, tag, redelivered, exchange, key)).marshal()
    theirs = frame.decode_frame(marshalled)[1].method
    ours = frames.read_delivery(marshalled, spec.FRAME_HEADER_SIZE)
    wanted = ("delivery_tag", "redelivered", "exchange", "routing_key")
    assert [getattr(ours, name) for name in wanted] == [getattr(theirs, name) for name in wanted]


@pytest.mark.parametrize("multiple", [False, True])
def test_acknowledgements_are_those_that_pika_sends(multiple: bool) -> None:
    assert frames.acknowledging(9, 2**40, multiple) == frame.Method(9, spec.Basic.Ack(2**40, multiple)).marshal()


def test_a_text_beyond_255_bytes_is_refused() -> None:
    with pytest.raises(ShortStringTooLong):
        frames.publishing(1, "e", "k" * 256, spec.BasicProperties(), b"", 100)
    with pytest.raises(ShortStringTooLong):
        frames.publishing(1, "e", "k", spec.BasicProperties(message_id="é" * 128), b"", 100)


def test_a_time_beyond_the_calendar_leaves_a_message_without_properties() -> None:
    marshalled = frame.Header(7, 1234, spec.BasicProperties(message_id="m", headers={"when": THEN})).marshal()
    broken = marshalled.replace(int(THEN.timestamp()).to_bytes(8, "big"), (2**60).to_bytes(8, "big"))
    ours, body_bytes = frames.read_header(broken, spec.FRAME_HEADER_SIZE)
    assert (ours.message_id, ours.headers, body_bytes) == (None, None, 1234)
