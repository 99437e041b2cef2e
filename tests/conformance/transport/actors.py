"""What the tests of plain actors say again and again."""

import asyncio
from collections.abc import Callable
from typing import Any

import dramatiq

from tests.conformance.transport.conftest import Rig, until

QUEUE = "notices.live"


def declaring(rig: Rig) -> Callable[..., Any]:
    """`@dramatiq.actor` on the broker under test."""

    def declare(function: Callable[..., Any] | None = None, **options: Any) -> Any:
        options = {"broker": rig.broker, "queue_name": QUEUE} | options
        return dramatiq.actor(function, **options) if function else lambda fn: dramatiq.actor(fn, **options)

    return declare


async def opened(rig: Rig, threads: int = 4) -> None:
    await rig.broker.open()
    rig.work(threads)


async def send(actor: Any, *args: Any, **options: Any) -> dramatiq.Message[Any]:
    """Send as a program that is no actor does: from a thread of its own."""
    return await asyncio.to_thread(actor.send_with_options, args=args, **options)


async def acknowledged(rig: Rig, count: int) -> None:
    await until(lambda: rig.broker.counts.acknowledged == count)


async def dead(rig: Rig, count: int = 1) -> None:
    """So many messages end among the dead letters, and none is left anywhere else."""
    await rig.ready("dead", count)
    await until(lambda: not any(consumer.started for consumer in rig.broker.consumers))
    depths = await rig.broker.depths()
    assert {name: depth.ready for name, depth in depths.items() if depth.ready} == {"dead": count}
