"""Wire: pika's connection on the event loop, made to move many small messages at once.

pika 1.4 hands every frame to the socket by itself (three `send` calls per message), copies what is left of its read
buffer once per frame, and makes objects of all that it reads and writes. Here the frames of one turn of the event loop
leave in one `send`, what has been read is cut up in one pass, and deliveries, publishes, acknowledgements and confirms
go past pika's objects (`broker/frames.py`). Everything else stays pika's: handshake, heartbeats, the state of
connections and channels, every other method.
"""

import struct
from collections.abc import Callable
from typing import Any

from pika import frame, spec
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.channel import Channel
from pika.exceptions import BodyTooLongError

from broker import frames

#: Bytes read at a time; pika's own 4 KiB are a handful of messages.
RECEIVE_BYTES = 64 * 1024

#: Bytes that leave before the turn of the loop is over, so that the server has work while we write on.
SEND_BYTES = 64 * 1024

#: How a server answers that speaks another version of the protocol: not a frame.
_OTHER_VERSION = b"AMQP"

_BODY_SIZE = struct.Struct(">Q")
#: In the payload of a header frame, behind class and weight.
_BODY_SIZE_AT = 4
_AROUND_BYTES = spec.FRAME_HEADER_SIZE + spec.FRAME_END_SIZE

#: (delivery method, properties, body)
Receive = Callable[[spec.Basic.Deliver, spec.BasicProperties, bytes], None]
#: (delivery tag, whether all up to it are meant, whether the server has taken the message)
Confirmed = Callable[[int, bool, bool], None]


class WireChannel(Channel):
    """A channel with at most one consumer, whose deliveries go to `receive`; its confirms go to `confirmed`."""

    connection: "WireConnection"
    receive: Receive | None = None
    confirmed: Confirmed | None = None

    _method: spec.Basic.Deliver | None = None
    _properties: spec.BasicProperties | None = None
    _missing = 0

    def publish(self, exchange: str, key: str, properties: spec.BasicProperties, body: bytes) -> None:
        """Publish, `mandatory`.

        Raises:
          AMQPError: the channel is closed, or the properties can't be written.
        """
        self._raise_if_not_open()
        pieces = frames.publishing(
            self.channel_number, exchange, key, properties, body, self.connection._body_max_length
        )
        self.connection.emit(b"".join(pieces))

    def acknowledge(self, tag: int, *, multiple: bool = False) -> None:
        """Acknowledge one delivery, or all up to it. Raises AMQPError: the channel is closed."""
        self._raise_if_not_open()
        self.connection.emit(frames.acknowledging(self.channel_number, tag, multiple))

    def takes(self, kind: int, buffer: bytes, start: int, size: int) -> bool:
        """Take a frame whose payload begins at `start`, unless it is pika's to handle."""
        if kind == spec.FRAME_METHOD:
            (index,) = frames.INDEX.unpack_from(buffer, start)
            if index == frames.DELIVER and self.receive is not None:
                self._method, self._properties = frames.read_delivery(buffer, start), None
                return True
            if index in (frames.ACK, frames.NACK) and self.confirmed is not None:
                tag, bits = frames.ANSWER.unpack_from(buffer, start + frames.INDEX.size)
                self.confirmed(tag, bool(bits & 1), index == frames.ACK)
                return True
            return False
        if self._method is None:
            return False
        if kind == spec.FRAME_HEADER:
            self._properties, self._missing = frames.read_header(buffer, start)
            self._fragments: list[bytes] = []
        elif kind == spec.FRAME_BODY:
            self._fragments.append(buffer[start : start + size])
            self._missing -= size
        if not self._missing:
            self._arrived()
        elif self._missing < 0:
            raise BodyTooLongError(size, size + self._missing)
        return True

    def _arrived(self) -> None:
        method, properties = self._method, self._properties
        self._method = self._properties = None
        assert method is not None
        assert properties is not None
        assert self.receive is not None
        self.receive(method, properties, b"".join(self._fragments))


class WireConnection(AsyncioConnection):
    """`AsyncioConnection` with whole turns of the loop as the unit of input and output."""

    _frame_buffer: bytes
    _channels: dict[int, WireChannel]
    _body_max_length: int

    def _init_connection_state(self) -> None:
        super()._init_connection_state()
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0

    def _create_channel(self, channel_number: int, on_open_callback: Any) -> WireChannel:
        return WireChannel(self, channel_number, on_open_callback)

    def _proto_connection_made(self, transport: Any) -> None:
        transport._MAX_RECV_BYTES = RECEIVE_BYTES
        super()._proto_connection_made(transport)

    def emit(self, data: bytes) -> None:
        """Send frames of ours with the others of this turn."""
        self.bytes_sent += len(data)
        self.frames_sent += 1
        self._adapter_emit_data(data)

    def _adapter_emit_data(self, data: bytes) -> None:
        if not self._unsent:
            self.ioloop.call_soon(self._send_unsent)
        self._unsent.append(data)
        self._unsent_bytes += len(data)
        if self._unsent_bytes >= SEND_BYTES:
            self._send_unsent()

    def _send_unsent(self) -> None:
        if self._unsent:
            data = b"".join(self._unsent)
            self._unsent.clear()
            self._unsent_bytes = 0
            # Gone when the connection was lost in between: what was unsent is as lost as what was sent.
            if self._transport is not None:
                self._transport.write(data)

    def _on_data_available(self, data_in: bytes) -> None:
        buffer = self._frame_buffer + data_in if self._frame_buffer else data_in
        if buffer.startswith(_OTHER_VERSION):
            super()._on_data_available(data_in)
            return
        # Frames may close the connection, whose state is then somebody else's.
        self._frame_buffer = b""
        start, end = 0, len(buffer)
        while start + _AROUND_BYTES <= end:
            kind, number, size = frames.HEAD.unpack_from(buffer, start)
            next_start = start + size + _AROUND_BYTES
            if next_start > end:
                break
            self.bytes_received += size + _AROUND_BYTES
            channel = self._channels.get(number)
            payload = start + spec.FRAME_HEADER_SIZE
            ends_well = buffer[next_start - 1] == spec.FRAME_END
            if channel is not None and ends_well and channel.takes(kind, buffer, payload, size):
                self.frames_received += 1
            else:
                self._process_frame(_decoded(buffer[start:next_start]))
            start = next_start
        self._frame_buffer = buffer[start:]


def _decoded(data: bytes) -> Any:
    """One frame. Properties that pika can't read (a time of no calendar, a type it doesn't know) count as none: the
    message is judged by its body, and does not take the connection with it.
    """
    try:
        return frame.decode_frame(data)[1]
    except Exception:
        if data[0] != spec.FRAME_HEADER:
            raise
        _, number, _ = frames.HEAD.unpack_from(data)
        (body_bytes,) = _BODY_SIZE.unpack_from(data, spec.FRAME_HEADER_SIZE + _BODY_SIZE_AT)
        return frame.Header(number, body_bytes, spec.BasicProperties())
