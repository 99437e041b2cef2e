"""A program for test_target_crashes: a worker that posts one document and is killed where it is told.

    python -m tests.conformance.connector.dying SUBJECT PLACE DATABASE_URL POINT

SUBJECT is a name in the registry, PLACE what `place` of that subject said; POINT is one of the three below.
"""

import asyncio
import os
import signal
import sys
from typing import Any

from contracts.channels import Receipt, TargetDocument
from pipeline.ports import Target
from store.database import Database
from tests.conformance.connector.registry import SUBJECTS
from tests.conformance.connector.worker import Worker

BEFORE, AFTER, NOWHERE = "before the call", "after the call", "nowhere"


class DyingTarget:
    """Kills the process when a document is about to be posted, or has been, as far as the target is concerned."""

    def __init__(self, target: Target, point: str) -> None:
        self._target, self._point = target, point

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    async def post(self, document: TargetDocument) -> Receipt:
        self._at(BEFORE)
        receipt = await self._target.post(document)
        self._at(AFTER)
        return receipt

    def _at(self, point: str) -> None:
        if point == self._point:
            os.kill(os.getpid(), signal.SIGKILL)


async def main(subject_name: str, place: str, database_url: str, point: str) -> None:
    database = await Database.open(database_url)
    subject = SUBJECTS[subject_name].at(place, database)
    worker = Worker(database, DyingTarget(subject.open(), point))
    await worker.post(subject.document(1))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
