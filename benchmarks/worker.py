"""One worker process of a contender that has no command line of its own: `python -m benchmarks.worker MODULE`."""

import asyncio
import signal
import sys
from importlib import import_module

from benchmarks.contender import Arrangement, Contender
from commands.logs import configure_logging


async def main(module: str) -> None:
    contender: Contender = import_module(module).CONTENDER(Arrangement.from_environment())
    working = asyncio.create_task(contender.work())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, working.cancel)
    await asyncio.wait([working])
    if not working.cancelled():
        working.result()


if __name__ == "__main__":
    configure_logging("INFO")
    asyncio.run(main(sys.argv[1]))
