"""What an error from below means to the person at the terminal: one line that says what failed and what to do."""

from pathlib import Path

from pipeline.errors import PipelineError, TransientError
from pipeline.rules import InvalidRules
from pipeline.settings import InvalidSetting

line_chars_max = 1000
HELD, DID_NOT_HOLD, USAGE = 0, 1, 2


class Unusable(Exception):
    """A wrong argument that only shows once the work has begun: exit status 2, one line."""


class NotThere(Exception):
    """What was asked for does not exist: exit status 1, one line."""


def explain(error: BaseException) -> tuple[str, int] | None:
    """One line about an error of the environment or the user, and its exit status; None for a defect of ours."""
    if isinstance(error, BaseExceptionGroup):
        return explain(error.exceptions[0])
    for kinds, status in ((_speaks_for_itself(), USAGE), (_says_no(), DID_NOT_HOLD)):
        if isinstance(error, kinds):
            return one_line(error), status
    line = _server(error) or _file(error)
    return (line, USAGE) if line else None


def one_line(error: BaseException) -> str:
    """What an error says, in one line of bounded length; its kind where it says nothing."""
    return " ".join(str(error).split())[:line_chars_max] or type(error).__name__


def _speaks_for_itself() -> tuple[type[BaseException], ...]:
    """Errors of use or configuration whose own text is the one clear line.

    Imported only once something has failed: they live beside what is slow to load.
    """
    from broker.connection import AccessRefused
    from broker.topology import TopologyMismatch
    from ops.bootstrap import NotReady
    from ops.corrections import InvalidCorrection
    from ops.cross_reference import InvalidMappings
    from ops.periods import InvalidPeriod
    from ops.target_setup import InvalidTarget

    ours = (Unusable, InvalidSetting, InvalidRules, InvalidCorrection, InvalidPeriod, InvalidMappings, InvalidTarget)
    return (*ours, NotReady, TopologyMismatch, AccessRefused)


def _says_no() -> tuple[type[BaseException], ...]:
    """Errors that are the answer: what was asked for is not there, or no longer possible."""
    from ops.catalogue import UnknownContract
    from ops.target_setup import InUse, NoAnswer
    from store.dead_letters import LetterNotOpen, UnknownLetter

    return (NotThere, LetterNotOpen, UnknownLetter, UnknownContract, NoAnswer, InUse)


def _server(error: BaseException) -> str | None:
    """A server that is out of reach, or a database without our tables."""
    text = one_line(error)
    if "no such table" in str(error) or 'relation "' in str(error):
        return "the database has no (current) schema; run `tieout migrate`"
    if isinstance(error, TransientError):
        return f"{text}; `tieout doctor` checks the servers"
    if isinstance(error, PipelineError):
        return text
    package = type(error).__module__.partition(".")[0]
    if package in ("pika", "redis") or isinstance(error, ConnectionError | TimeoutError):
        return f"can't reach a server: {text}; `tieout doctor` checks them"
    if package == "alembic":
        return f"the database's schema is none of this release's, maybe a newer one's: {text}; deploy that release"
    if package == "sqlalchemy" and type(error).__name__ in ("ArgumentError", "NoSuchModuleError"):
        return f"DATABASE_URL can't be used: {text}"
    return None


def _file(error: BaseException) -> str | None:
    if not isinstance(error, OSError) or isinstance(error, ConnectionError | TimeoutError):
        return None
    name = Path(str(error.filename)).as_posix() if error.filename else ""
    return ": ".join(part for part in (name, error.strerror or str(error)) if part)
