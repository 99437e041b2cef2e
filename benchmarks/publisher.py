"""The publisher process of a contender: `python -m benchmarks.publisher MODULE`, driven by lines of JSON.

It first says what the contender is like (`Described`), then does what it is told (`Order`) and says when it did it.
"""

import asyncio
import os
import sys
import time
from importlib import import_module, metadata
from typing import BinaryIO

import msgspec

from benchmarks.contender import Arrangement, Contender, Publish
from commands.logs import configure_logging


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """What the run has to know about a contender."""

    queues: tuple[str, ...]
    other_queues: tuple[str, ...]
    exchanges: tuple[str, ...]
    consumers: int
    workers: list[list[str]]
    settings: dict[str, str]
    versions: dict[str, str]


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Publish `count` events from number `first` on: as fast as can be, or `per_s` of them a second."""

    first: int
    count: int
    per_s: float | None = None


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """When it began and ended, and (paced) when each event was about to be sent; seconds, monotonic clock."""

    began: float
    ended: float
    sent: list[float] = []


def describe(contender: Contender) -> Described:
    other_queues, exchanges = contender.leftovers()
    return Described(
        queues=contender.queues(),
        other_queues=other_queues,
        exchanges=exchanges,
        consumers=contender.consumers(),
        workers=contender.workers(),
        settings=dict(contender.settings),
        versions={name: metadata.version(name) for name in contender.libraries},
    )


async def obey(publish: Publish, order: Order) -> Done:
    began = time.monotonic()
    if order.per_s is None:
        await publish(order.first, order.count)
        return Done(began=began, ended=time.monotonic())
    sent: list[float] = []
    under_way: list[asyncio.Task[None]] = []
    for position in range(order.count):
        # By the clock, not by the answers: a contender that lags must not slow down what is measured on it.
        await asyncio.sleep(max(0.0, began + position / order.per_s - time.monotonic()))
        sent.append(time.monotonic())
        under_way.append(asyncio.create_task(_publish_one(publish, order.first + position)))
    await asyncio.gather(*under_way)
    return Done(began=began, ended=time.monotonic(), sent=sent)


async def _publish_one(publish: Publish, number: int) -> None:
    await publish(number, 1)


async def main(module: str, answers: BinaryIO) -> None:
    contender: Contender = import_module(module).CONTENDER(Arrangement.from_environment())
    async with contender.publisher() as publish:
        _say(answers, describe(contender))
        while line := await asyncio.to_thread(sys.stdin.buffer.readline):
            _say(answers, await obey(publish, msgspec.json.decode(line, type=Order)))


def _say(answers: BinaryIO, what: Described | Done) -> None:
    answers.write(msgspec.json.encode(what) + b"\n")
    answers.flush()


if __name__ == "__main__":
    # What a library prints goes to the log, not between our lines.
    own = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    configure_logging("INFO")
    asyncio.run(main(sys.argv[1], own))
