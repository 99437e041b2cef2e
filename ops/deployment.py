"""The release step: schema and topology are in place before the processes of the new version start."""

import asyncio

from ops.bootstrap import open_engine
from pipeline.settings import Settings
from store.database import migrate, schema_is_current


def release(settings: Settings) -> bool:
    """Bring the schema up to date and declare exchanges and queues; whether the schema had to change.

    Raises:
      TransientError: the database is out of reach.
      NotReady: the broker is out of reach, or holds queues with other arguments.
    """
    changed = not schema_is_current(settings.database_url)
    migrate(settings.database_url)
    if not settings.embedded:
        asyncio.run(_declare(settings))
    return changed


async def _declare(settings: Settings) -> None:
    """Opening the engine declares everything it knows."""
    async with open_engine(settings):
        pass
