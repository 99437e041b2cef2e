"""Following what other processes change: mappings, periods, master data, targets."""

import asyncio
from contextlib import suppress

from loguru import logger

from pipeline.errors import TransientError
from store.reference import ReferenceStore


async def keep_fresh(reference: ReferenceStore, every_ms: int, stop: asyncio.Event) -> None:
    """Follow changes of the reference data that other processes make, until `stop` is set."""
    while not stop.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(every_ms / 1000):
                await stop.wait()
                return
        try:
            await reference.refresh()
        except TransientError as error:
            logger.bind(event="reference_not_refreshed").warning("{}", error)
        except Exception as error:
            # Whatever it is: a process that followed no changes any more would post by what used to hold.
            logger.bind(event="reference_not_refreshed").opt(exception=error).error("{!r}", error)
