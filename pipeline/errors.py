"""Errors, sorted by what happens next: retried, dead-lettered, parked, or asked about."""

from pipeline.codes import MAPPING_MISSING, UNDECODABLE, Code


class PipelineError(Exception):
    """Base of every error the pipeline raises on purpose."""


class TransientError(PipelineError):
    """A fault of ours or the target's (time-out, 429, 503, lock): retried with backoff on the broker.

    `burns_attempt` is false where waiting is nobody's fault (a closed circuit, somebody else's lease). `outage`: nobody
    has answered, and attempts don't count at first.
    """

    outage = False

    def __init__(self, message: str, *, retry_after_ms: int | None = None, burns_attempt: bool = True) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms
        self.burns_attempt = burns_attempt


class OutcomeUnknown(TransientError):
    """The target was called and never answered: it is asked by our reference before anything is sent again."""

    outage = True


class NotAnswered(TransientError):
    """The target was asked, which changes nothing, and has not answered."""

    outage = True


class PermanentError(PipelineError):
    """Will fail the same way again: dead-lettered at once for the team that owns it."""

    def __init__(self, code: Code, message: str, *, owner: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.owner = owner or code.owner
        #: Whose books the record is kept out of, where the stage has found out before it failed.
        self.legal_entity: str | None = None


class UndecodableMessage(PermanentError):
    """The bytes are not one of our messages: rejected at once, kept as they are among the dead letters."""

    def __init__(self, message: str) -> None:
        super().__init__(UNDECODABLE, message)


class MappingMissing(PermanentError):
    """The cross-reference has no entry; `kind` and `key` say which, so that causes can be grouped."""

    def __init__(self, kind: str, key: str, owner: str) -> None:
        super().__init__(
            MAPPING_MISSING, f"no {kind} mapping for {key!r}: tieout map set {kind} {key!r} VALUE", owner=owner
        )
        self.kind, self.key = kind, key


class DependencyMissing(PipelineError):
    """The record waits for another one: parked under its key, released by itself when that arrives."""

    def __init__(self, key: str) -> None:
        super().__init__(f"waits for {key}")
        self.key = key


def dependency_key(document_type: str, canonical_id: str) -> str:
    """The key a record is parked under: `project.v1:P-100`."""
    return f"{document_type}:{canonical_id}"
