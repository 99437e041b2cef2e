"""From the environment to an open engine: what every command that touches the store begins with."""

import asyncio
import getpass
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

import click

from commands.environment import current_settings
from ops.bootstrap import Engine, open_engine

Result = TypeVar("Result")

__all__ = ["actor_option", "current_settings", "current_user", "with_engine"]


def with_engine(
    task: Callable[[Engine], Awaitable[Result]], *, work: bool = False, stands_back: bool = False
) -> Result:
    """Open the engine, run the task with it, close it; `work` also runs the stages where everything is embedded,
    `stands_back` lets live work go first.
    """

    settings = current_settings()

    async def run() -> Result:
        async with open_engine(settings, work=work and settings.embedded, stands_back=stands_back) as engine:
            return await task(engine)

    return asyncio.run(run())


def actor_option(function: Callable[..., object]) -> Callable[..., object]:
    """Add `--actor`: who does it, for the audit; the operating system's user by default."""
    return click.option(
        "-a", "--actor", default=current_user, show_default="$USER", help="Who does this, for the audit."
    )(function)


def current_user() -> str:
    """The operating system's name of whoever runs this."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())
