"""What the doctor finds: one line per thing that was looked at."""

import re
from collections.abc import Mapping

import msgspec

OK, ADVICE, WARNING, PROBLEM = "ok", "advice", "warning", "problem"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at and found. `level`: ok, advice (could be better), warning (will bite), problem (exit 1).

    `source` says where a setting comes from; `remedy` is what to do, or the very command.
    """

    subject: str
    level: str
    found: str
    source: str | None = None
    remedy: str | None = None


_PASSWORD = re.compile(r"(?<=://)([^:@/,\s]*):[^,\s]*(?=@)")
_PARAMETER = re.compile(r"(?i)\b(password|passwd|secret|token)=[^&,\s]*")


def masked(text: str) -> str:
    """A text with every password of a URL in it (there may be several) replaced by `***`."""
    return _PARAMETER.sub(r"\1=***", _PASSWORD.sub(r"\1:***", text))


def first_line(error: BaseException) -> str:
    """What an error says, in one line; what the error inside it says, or its kind, where it says nothing."""
    lines = str(error).strip().splitlines()
    if lines:
        return lines[0]
    inner = next((getattr(one, "exception", one) for one in error.args if isinstance(one, BaseException)), None)
    return first_line(inner) if inner is not None else type(error).__name__


def remedy_for(said: str, cures: Mapping[str, str], otherwise: str) -> str:
    """The cure of the first of these words that a server said."""
    return next((cure for words, cure in cures.items() if words.lower() in said.lower()), otherwise)
