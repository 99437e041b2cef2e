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

#: The largest body that is sent or taken. What a stage makes of a record of 1 MiB stays far below; from 16 MiB on
#: RabbitMQ 4 closes the channel, with everything else that is on its way there.
BODY_BYTES_MAX = 8 * 1024 * 1024


class MessageTooLarge(ValueError):
    """A body that is larger than the broker of this deployment takes."""


#: What reading bytes of any kind may raise; JSON may be nested deeper than Python's stack.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


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


def check_size(body: bytes, bytes_max: int) -> None:
    """Raises MessageTooLarge."""
    if len(body) > bytes_max:
        raise MessageTooLarge(f"a message of {len(body):,} bytes, {bytes_max:,} at most")


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
        take = bytes if actor.options.get("raw") else msgspec.json.decode
        return dramatiq.Message(
            queue_name=queue_name,
            actor_name=read.actor_name,
            args=tuple(take(argument) for argument in read.args),
            kwargs={name: take(argument) for name, argument in read.kwargs.items()},
            options=_known(read.options),
            message_id=read.message_id,
            message_timestamp=read.message_timestamp,
        )
    except (*UNREADABLE, dramatiq.ActorNotFound) as error:
        raise Undecodable(f"{type(error).__name__}: {error}") from error


def _known(options: dict[str, Any]) -> dict[str, Any]:
    """Options that decide over the message, without what is no such thing: anybody may publish to us."""
    options.pop("throws", None)  # names classes, which do not travel
    if not isinstance(options.get("max_retries"), int | None):
        del options["max_retries"]
    return options


def batch_in(body: bytes) -> Batch | None:
    """The batch that a stage's message carries; None when it is not one of ours."""
    try:
        read = _decoder.decode(body)
        return _batches.decode(read.args[0]) if read.args else None
    except UNREADABLE:
        return None
