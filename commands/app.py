"""The frame around every command: lazy loading, one clear line for an error, exit status 0, 1 or 2."""

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import click
from loguru import logger

from commands.errors import DID_NOT_HOLD, HELD, USAGE, explain, one_line
from commands.logs import configure_logging

INTERRUPTED = 130


class TidyGroup(click.Group):
    """A group whose usage errors are one line, and whose commands are listed in the order they were written down."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """What each command does, in full: Click would cut the sentence."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.does(name)) for name in self.list_commands(ctx)])

    def does(self, name: str) -> str:
        """The first sentence of a command's help, up to the colon that introduces the details."""
        return self.commands[name].get_short_help_str(limit=1000).partition(":")[0].partition(";")[0]


class LazyGroup(TidyGroup):
    """The root group: imports a command's module when that command is asked for, and turns every error into one line.

    Args:
      commands_at: by a command's name, where it lives (`module:attribute`) and what it does.

    Commands return their exit status; None is 0.
    """

    def __init__(self, *args: Any, commands_at: dict[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.commands_at = commands_at

    def does(self, name: str) -> str:
        return self.commands_at[name][1]

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands_at)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.commands_at:
            return None
        module, _, attribute = self.commands_at[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line and exit with its status."""
        try:
            status = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
            sys.stdout.flush()
        except (BrokenPipeError, SystemExit):
            # Click and rich both turn a broken pipe into SystemExit; nothing of ours raises it.
            status = _reader_went_away()
        except Exception as error:
            status = _report(error)
        if not standalone_mode:
            return status
        sys.exit(status or HELD)


def verbose_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--verbose`, which shows debug logs, and tracebacks of unexpected errors, on standard error."""

    def configure(ctx: click.Context, _: click.Parameter, verbose: bool) -> None:
        ctx.meta["tieout.verbose"] = verbose
        configure_logging("DEBUG" if verbose else os.environ.get("TIEOUT_LOG_LEVEL") or "ERROR")

    return click.option(
        "-v",
        "--verbose",
        is_flag=True,
        expose_value=False,
        callback=configure,
        help="Debug logs, on standard error.",
    )(function)


def _report(error: Exception) -> int:
    """Print one line about an error on standard error, and say which exit status it means."""
    if isinstance(error, click.exceptions.Abort):
        click.echo("tieout: stopped", err=True)
        return INTERRUPTED
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return USAGE
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else "tieout"
        click.echo(f"{path}: {' '.join(error.format_message().split())} (see `{path} --help`)", err=True)
        return USAGE
    if isinstance(error, click.ClickException):
        click.echo(f"tieout: {error.format_message()}", err=True)
        return error.exit_code
    known = explain(error)
    if known is not None:
        line, status = known
        click.echo(f"tieout: {line}", err=True)
        return status
    logger.opt(exception=error).debug("unexpected error")
    click.echo(
        f"tieout: unexpected {type(error).__name__}: {one_line(error)} (a defect; `tieout --verbose` shows where)",
        err=True,
    )
    return DID_NOT_HOLD


def _reader_went_away() -> int:
    """`tieout dead list | head`: the reader has seen enough. Without this the interpreter complains at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return HELD
