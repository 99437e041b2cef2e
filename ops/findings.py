"""What the doctor finds: one line per thing that was looked at."""

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


def masked(value: str) -> str:
    """A URL without its password; every other value as it is."""
    head, at, tail = value.rpartition("@")
    if not at or "://" not in head:
        return value
    scheme, _, userinfo = head.partition("://")
    user, colon, _ = userinfo.partition(":")
    return f"{scheme}://{user}{':***' if colon else ''}@{tail}"


def first_line(error: BaseException) -> str:
    """What an error says, in one line; its kind where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
