"""A program for test_recover_after_crashes: accepts a file, works on it, and kills itself at the point it is told.

    python dying.py DATABASE_URL FILE POINT

It counts nothing and waits for nothing: the ports of the running engine are wrapped, and the wrapper that comes to its
point for the second time kills the process, so that some records are behind it, some before it and some at it.
"""

import asyncio
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from ops.bootstrap import Engine, open_engine
from ops.embedded import ingest_and_settle
from ops.ingest.mapping import load_mapping
from pipeline.settings import Settings
from tests.acceptance.declarations import MAPPING

#: The time the point is reached that ends it all.
TIMES = 2


class Switch:
    """Kills the process when it comes to its point."""

    def __init__(self, point: str) -> None:
        self._point = point
        self._times: Counter[str] = Counter()

    def at(self, point: str) -> None:
        self._times[point] += 1
        if point == self._point and self._times[point] == TIMES:
            os.kill(os.getpid(), signal.SIGKILL)


class DyingPort:
    """A port whose calls come to a point before they are made and to another when they are done."""

    def __init__(self, port: Any, switch: Switch, names: dict[str, Any]) -> None:
        self._port, self._switch, self._names = port, switch, names

    def __getattr__(self, method: str) -> Any:
        call = getattr(self._port, method)
        if method not in self._names:
            return call

        async def watched(*arguments: Any) -> Any:
            name = self._names[method](*arguments)
            self._switch.at(f"before {name}")
            result = await call(*arguments)
            self._switch.at(f"after {name}")
            return result

        return watched


def arm(engine: Engine, switch: Switch) -> None:
    """Put the switch into everything a message goes through."""
    services = engine.runner.services
    ledger = {"record": lambda entry: f"the commit of {entry.steps[0].stage}" if entry.steps else "a commit"}
    publisher = {"publish": lambda messages: f"the publishing to {messages[0].stage}"}
    postings = {name: lambda *_, name=name: f"the {name}" for name in ("intend", "answer")}
    target = {"post": lambda document: "the call"}
    engine.runner.services = msgspec.structs.replace(
        services,
        ledger=DyingPort(services.ledger, switch, ledger),
        publisher=DyingPort(services.publisher, switch, publisher),
        postings=DyingPort(services.postings, switch, postings),
        targets={name: DyingPort(one, switch, target) for name, one in services.targets.items()},
    )
    acknowledge, publish = engine.broker._acknowledge, engine.publish_when_room

    def acknowledge_or_die(delivery: Any) -> None:
        switch.at(f"before the acknowledgement of {delivery.queue_name.partition('.')[0]}")
        acknowledge(delivery)

    async def publish_or_die(rows: Any) -> None:
        switch.at("before the publishing of what was accepted")
        await publish(rows)

    engine.broker._acknowledge = acknowledge_or_die  # type: ignore[method-assign]
    engine.publish_when_room = publish_or_die  # type: ignore[method-assign]


def settings_for(database_url: str) -> Settings:
    return Settings(
        database_url=database_url, data_dir=Path(database_url.partition("///")[2]).parent, bulk_batch_records_max=2
    )


async def main(database_url: str, file: str, point: str) -> None:
    async with open_engine(settings_for(database_url), work=True) as engine:
        arm(engine, Switch(point))
        for part in (1, 2):  # two runs, so that something is accepted twice
            path = Path(file).with_suffix(f".{part}.csv")
            await ingest_and_settle(engine, [path], load_mapping(MAPPING), lane="bulk", actor="test")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
