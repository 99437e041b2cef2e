"""Frames: the few kinds of AMQP frames that a message costs, written and read without an object for each.

pika builds a method, a header and a body frame per message, and hands what it reads through a table of callbacks: a
good part of what a message costs. So these go straight between bytes and values; all other frames, and all the state of
connections and channels, stay pika's. The layout is that of AMQP 0-9-1, sections 2.3 and 4.2
(https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf), in the types of pika's own tables.
"""

import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from pika import data
from pika.exceptions import ShortStringTooLong
from pika.spec import FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_METHOD, Basic, BasicProperties

#: A header table of this size, or with texts of this length, is not remembered; ours are the same from one message to
#: the next.
TABLE_BYTES_MAX = 512
TABLES_MAX = 2048
SHORT_BYTES_MAX = 255

#: What goes around the payload of a frame: type, channel and size before it, one byte behind it.
HEAD = struct.Struct(">BHL")
END = bytes([FRAME_END])

#: Class and method of a method frame, as one number.
INDEX = struct.Struct(">L")
DELIVER, ACK, NACK = Basic.Deliver.INDEX, Basic.Ack.INDEX, Basic.Nack.INDEX
_PUBLISH = struct.Struct(">LH")
_MANDATORY = b"\x01"
_ACK = struct.Struct(">BHLLQBB")
_ACK_BYTES = 13
#: In an acknowledgement, behind its index: delivery tag, whether all before it are meant.
ANSWER = struct.Struct(">QB")
#: In a delivery, behind the consumer tag: delivery tag, whether it was delivered before.
_DELIVERED = struct.Struct(">QB")

#: The payload of a header frame up to the properties: class, weight, size of the body.
_CONTENT = struct.Struct(">HHQ")
_BODY_SIZE = struct.Struct(">Q")
_BODY_SIZE_AT = 4
_FLAGS = struct.Struct(">H")
_MORE_FLAGS = 1
_LENGTH = struct.Struct(">L")
_LONG = struct.Struct(">Q")

_TEXT, _TABLE, _OCTET, _TIME = range(4)
_FIELDS = (
    (BasicProperties.FLAG_CONTENT_TYPE, "content_type", _TEXT),
    (BasicProperties.FLAG_CONTENT_ENCODING, "content_encoding", _TEXT),
    (BasicProperties.FLAG_HEADERS, "headers", _TABLE),
    (BasicProperties.FLAG_DELIVERY_MODE, "delivery_mode", _OCTET),
    (BasicProperties.FLAG_PRIORITY, "priority", _OCTET),
    (BasicProperties.FLAG_CORRELATION_ID, "correlation_id", _TEXT),
    (BasicProperties.FLAG_REPLY_TO, "reply_to", _TEXT),
    (BasicProperties.FLAG_EXPIRATION, "expiration", _TEXT),
    (BasicProperties.FLAG_MESSAGE_ID, "message_id", _TEXT),
    (BasicProperties.FLAG_TIMESTAMP, "timestamp", _TIME),
    (BasicProperties.FLAG_TYPE, "type", _TEXT),
    (BasicProperties.FLAG_USER_ID, "user_id", _TEXT),
    (BasicProperties.FLAG_APP_ID, "app_id", _TEXT),
    (BasicProperties.FLAG_CLUSTER_ID, "cluster_id", _TEXT),
)


# Writing


def publishing(
    channel: int, exchange: str, key: str, properties: BasicProperties, body: bytes, fragment_bytes_max: int
) -> list[bytes]:
    """The frames that publish a message, to be returned if no queue takes it.

    Raises:
      AMQPError: a text is longer than 255 bytes, or a header is of a type that AMQP does not know.
    """
    written = _written(properties)
    size = len(body)
    pieces = [
        _publish_frame(channel, exchange, key),
        HEAD.pack(FRAME_HEADER, channel, _CONTENT.size + len(written)),
        _CONTENT.pack(Basic.INDEX, 0, size),
        written,
        END,
    ]
    for start in range(0, size, fragment_bytes_max):
        fragment = body if size <= fragment_bytes_max else body[start : start + fragment_bytes_max]
        pieces += (HEAD.pack(FRAME_BODY, channel, len(fragment)), fragment, END)
    return pieces


def acknowledging(channel: int, tag: int, multiple: bool) -> bytes:
    """The frame that acknowledges one delivery, or all up to it."""
    return _ACK.pack(FRAME_METHOD, channel, _ACK_BYTES, ACK, tag, multiple, FRAME_END)


@lru_cache(TABLES_MAX)
def _publish_frame(channel: int, exchange: str, key: str) -> bytes:
    payload = b"".join((_PUBLISH.pack(Basic.Publish.INDEX, 0), _short(exchange), _short(key), _MANDATORY))
    return HEAD.pack(FRAME_METHOD, channel, len(payload)) + payload + END


def _short(text: str | bytes) -> bytes:
    written = text.encode() if isinstance(text, str) else text
    if len(written) > SHORT_BYTES_MAX:
        raise ShortStringTooLong(written)
    return bytes((len(written),)) + written


def _written(properties: BasicProperties) -> bytes:
    flags, pieces = 0, [b""]
    given = properties.__dict__
    for flag, name, kind in _FIELDS:
        if (value := given[name]) is None:
            continue
        flags |= flag
        if kind == _TEXT:
            pieces.append(_short(value))
        elif kind == _TABLE:
            pieces.append(_table(value))
        elif kind == _OCTET:
            pieces.append(bytes((value,)))
        else:
            pieces.append(_LONG.pack(value))
    pieces[0] = _FLAGS.pack(flags)
    return b"".join(pieces)


def _table(table: dict[str, Any]) -> bytes:
    if any(len(value) > TABLE_BYTES_MAX for value in table.values() if isinstance(value, str | bytes)):
        return _any_table(table)
    try:
        # The types as well: 1 and True are equal, and are not the same on the wire.
        return _plain_table(tuple(table.items()), tuple(map(type, table.values())))
    except TypeError:
        return _any_table(table)


@lru_cache(TABLES_MAX)
def _plain_table(items: tuple[tuple[str, Any], ...], _: tuple[type, ...]) -> bytes:
    return _any_table(dict(items))


def _any_table(table: dict[str, Any]) -> bytes:
    pieces: list[bytes] = []
    data.encode_table(pieces, table)
    return b"".join(pieces)


# Reading


def read_delivery(buffer: bytes, start: int) -> Basic.Deliver:
    """The method of a delivery; its payload begins at `start`."""
    consumer_at = start + INDEX.size
    tag_at = consumer_at + 1 + buffer[consumer_at]
    tag, redelivered = _DELIVERED.unpack_from(buffer, tag_at)
    exchange, key_at = _read_short(buffer, tag_at + _DELIVERED.size)
    key, _ = _read_short(buffer, key_at)
    return Basic.Deliver("", tag, bool(redelivered), exchange, key)


def read_header(buffer: bytes, start: int) -> tuple[BasicProperties, int]:
    """The properties of a message and the size of its body; the frame's payload begins at `start`.

    Properties that can't be read (a time of no calendar, a type nobody knows) count as none: the message is judged by
    its body, and does not take the connection with it.
    """
    (size,) = _BODY_SIZE.unpack_from(buffer, start + _BODY_SIZE_AT)
    try:
        return _read_properties(buffer, start + _CONTENT.size), size
    except Exception:
        return BasicProperties(), size


def _read_properties(buffer: bytes, at: int) -> BasicProperties:
    (flags,) = _FLAGS.unpack_from(buffer, at)
    properties = BasicProperties()
    if flags & _MORE_FLAGS:
        # Of no field that AMQP 0-9-1 has.
        return properties.decode(buffer, at)  # type: ignore[no-any-return]
    at += _FLAGS.size
    for name, read in _fields_of(flags):
        value, at = read(buffer, at)
        setattr(properties, name, value)
    return properties


@lru_cache(TABLES_MAX)
def _fields_of(flags: int) -> list[tuple[str, Callable[[bytes, int], tuple[Any, int]]]]:
    return [(name, _READERS[kind]) for flag, name, kind in _FIELDS if flags & flag]


def _read_short(buffer: bytes, at: int) -> tuple[str | bytes, int]:
    """As pika does: what is not UTF-8 stays bytes."""
    end = at + 1 + buffer[at]
    value = buffer[at + 1 : end]
    try:
        return value.decode(), end
    except UnicodeDecodeError:
        return value, end


def _read_table(buffer: bytes, at: int) -> tuple[dict[str, Any], int]:
    (size,) = _LENGTH.unpack_from(buffer, at)
    end = at + _LENGTH.size + size
    encoded = buffer[at:end]
    if size > TABLE_BYTES_MAX:
        return data.decode_table(encoded, 0)[0], end  # type: ignore[return-value]
    table, is_plain = _known_table(encoded)
    # Whoever is given it may change it; what lies deeper is read anew.
    return table.copy() if is_plain else data.decode_table(encoded, 0)[0], end  # type: ignore[return-value]


@lru_cache(TABLES_MAX)
def _known_table(encoded: bytes) -> tuple[dict[str, Any], bool]:
    table: dict[Any, Any] = data.decode_table(encoded, 0)[0]
    return table, not any(isinstance(value, dict | list) for value in table.values())


def _read_octet(buffer: bytes, at: int) -> tuple[int, int]:
    return buffer[at], at + 1


def _read_time(buffer: bytes, at: int) -> tuple[int, int]:
    return _LONG.unpack_from(buffer, at)[0], at + _LONG.size


_READERS = {_TEXT: _read_short, _TABLE: _read_table, _OCTET: _read_octet, _TIME: _read_time}
