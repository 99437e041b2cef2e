"""What a stage may return instead of the next contract: an end that is no error."""

import msgspec


class Duplicate(msgspec.Struct, frozen=True, kw_only=True):
    """Already handled: `of` is the record (or reference) that stands for it, `reason` one sentence."""

    of: str
    reason: str


class Superseded(msgspec.Struct, frozen=True, kw_only=True):
    """Overtaken; `by` says by what: `revision 3`."""

    by: str


ENDS = (Duplicate, Superseded)
