"""What the wire makes of what comes in, however it is cut up, and of frames that pika itself can't read."""

import asyncio
from datetime import UTC, datetime

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import frame, spec
from pika.exceptions import BodyTooLongError

from broker.wire import WireChannel, WireConnection, _decoded

THEN = datetime(2026, 1, 1, tzinfo=UTC)


def a_header(**headers: object) -> bytes:
    return frame.Header(7, 1234, spec.BasicProperties(message_id="m", headers=headers)).marshal()


def test_properties_that_can_be_read_are() -> None:
    header = _decoded(a_header(when=THEN))
    assert (header.channel_number, header.body_size, header.properties.message_id) == (7, 1234, "m")


def test_a_time_beyond_the_calendar_leaves_a_message_without_properties() -> None:
    seconds = int(THEN.timestamp()).to_bytes(8, "big")
    header = _decoded(a_header(when=THEN).replace(seconds, (2**60).to_bytes(8, "big")))
    assert (header.channel_number, header.body_size, header.properties.message_id) == (7, 1234, None)


def test_any_other_frame_that_cannot_be_read_is_an_error() -> None:
    method = bytearray(frame.Method(1, spec.Basic.Ack(5)).marshal())
    method[7:11] = b"\xff\xff\xff\xff"
    with pytest.raises(KeyError):
        _decoded(bytes(method))


def a_delivery(tag: int, body: bytes, fragment_bytes: int = 50) -> bytes:
    parts = [
        frame.Method(1, spec.Basic.Deliver("c", tag, False, "work", "validate.live")),
        frame.Header(1, len(body), spec.BasicProperties(message_id=f"m{tag}")),
        *(frame.Body(1, body[at : at + fragment_bytes]) for at in range(0, len(body), fragment_bytes)),
    ]
    return b"".join(part.marshal() for part in parts)


def fed(*pieces: bytes) -> tuple[list[tuple[int, str, bytes]], list[tuple[int, bool, bool]], WireConnection]:
    """What channel 1 of a connection that nobody is at the other end of makes of these pieces."""
    loop = asyncio.new_event_loop()
    try:
        connection = WireConnection(pika.ConnectionParameters(), custom_ioloop=loop, internal_connection_workflow=False)
        channel = connection._channels[1] = WireChannel(connection, 1, lambda _: None)
        deliveries: list[tuple[int, str, bytes]] = []
        confirms: list[tuple[int, bool, bool]] = []
        channel.receive = lambda method, properties, body: deliveries.append(
            (method.delivery_tag, properties.message_id, body)
        )
        channel.confirmed = lambda *confirm: confirms.append(confirm)
        for piece in pieces:
            connection._on_data_available(piece)
        return deliveries, confirms, connection
    finally:
        loop.close()


@given(st.lists(st.binary(max_size=200), max_size=5), st.lists(st.integers(1, 90), max_size=40))
def test_deliveries_come_whole_however_they_were_cut(bodies: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(a_delivery(tag, body) for tag, body in enumerate(bodies, 1))
    pieces = []
    for size in sizes:
        pieces.append(stream[:size])
        stream = stream[size:]
    deliveries, _, connection = fed(*pieces, stream)
    assert deliveries == [(tag, f"m{tag}", body) for tag, body in enumerate(bodies, 1)]
    assert connection.frames_received == sum(2 + -(-len(body) // 50) for body in bodies)


def test_confirms_between_deliveries_are_told() -> None:
    frames = [spec.Basic.Ack(3, True), spec.Basic.Nack(4, False, False), spec.Basic.Ack(5, False)]
    first, second, third = (frame.Method(1, one).marshal() for one in frames)
    deliveries, confirms, _ = fed(first + a_delivery(1, b"body") + second + third)
    assert confirms == [(3, True, True), (4, False, False), (5, False, True)]
    assert deliveries == [(1, "m1", b"body")]


def test_a_body_longer_than_its_header_says_is_an_error() -> None:
    method, header, *_ = (
        frame.Method(1, spec.Basic.Deliver("c", 1, False, "", "q")).marshal(),
        frame.Header(1, 3, spec.BasicProperties()).marshal(),
    )
    with pytest.raises(BodyTooLongError):
        fed(method + header + frame.Body(1, b"four").marshal())
