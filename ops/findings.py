"""What the doctor finds: one line per thing that was looked at."""

import re

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
    """What an error says, in one line; its kind where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
