"""Encoding: a Dramatiq message on the wire, its batch nested in it as plain JSON and encoded once.

A stock Dramatiq worker could read these messages. Reading is lazy: the arguments of a stage's actor stay bytes until
the runner decodes them.
"""

import time
from collections.abc import Callable
from typing import Any

import dramatiq
import msgspec

from contracts.envelope import Batch


class Undecodable(Exception):
    """The body is not a Dramatiq message, or names an actor nobody has declared."""


class _Written(msgspec.Struct, frozen=True):
    """The fields of a Dramatiq message."""

    queue_name: str
    actor_name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: dict[str, Any]
    message_id: str
    message_timestamp: int


class _Read(msgspec.Struct, frozen=True):
    """The same, its arguments left as they came."""

    queue_name: str
    actor_name: str
    args: tuple[msgspec.Raw, ...]
    kwargs: dict[str, msgspec.Raw]
    options: dict[str, Any]
    message_id: str
    message_timestamp: int


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Read)
_batches = msgspec.json.Decoder(Batch)


def encode_batch(queue_name: str, stage: str, batch: Batch) -> bytes:
    """The message that hands a batch to a stage's actor."""
    written = _Written(queue_name, stage, (batch,), {}, {}, batch.envelope.id, int(time.time() * 1000))
    return _encoder.encode(written)


def encode_message(message: dramatiq.Message[Any]) -> bytes:
    """Any actor's message; arguments may be whatever msgspec can write."""
    return _encoder.encode(_Written(**message.asdict()))


def decode_message(
    body: bytes, queue_name: str, actor_of: Callable[[str], dramatiq.Actor[Any, Any]]
) -> dramatiq.Message[Any]:
    """Read a message that came from `queue_name`, whatever queue it says itself: it may have been moved.

    The arguments of an actor declared with `raw=True` are `bytes`.

    Raises:
      Undecodable: dead-letter it.
    """
    try:
        read = _decoder.decode(body)
        actor = actor_of(read.actor_name)
    except (msgspec.MsgspecError, UnicodeDecodeError, dramatiq.ActorNotFound) as error:
        raise Undecodable(f"{type(error).__name__}: {error}") from error
    take = bytes if actor.options.get("raw") else msgspec.json.decode
    return dramatiq.Message(
        queue_name=queue_name,
        actor_name=read.actor_name,
        args=tuple(take(argument) for argument in read.args),
        kwargs={name: take(argument) for name, argument in read.kwargs.items()},
        options=read.options,
        message_id=read.message_id,
        message_timestamp=read.message_timestamp,
    )


def batch_in(body: bytes) -> Batch | None:
    """The batch that a stage's message carries; None when it is not one of ours."""
    try:
        read = _decoder.decode(body)
        return _batches.decode(read.args[0]) if read.args else None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
