"""The error normaliser: where a system puts its errors, declared, and the one shape that all of them come in."""

from typing import Any, Literal

import msgspec

from connectors.http.answer import Answer, words_of
from connectors.http.pointers import first, values
from connectors.http.secrets import Redactor

#: What a fault means for what happens next; `outcome.error_for` makes the pipeline's error of it.
#: `busy`: it is there and well, and will take the same call once others are done.
Means = Literal["refused", "period_closed", "transient", "busy", "throttled", "unknown", "login"]

message_length_max = 500


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What the target complains of, in its own words, secrets taken out.

    `kind` is the class of error (`UserError`, `validation`), `code` its number or name, `field` the place in the
    document, `item` the position in a bulk call. Empty where the target does not say.
    """

    status: int
    kind: str = ""
    code: str = ""
    field: str = ""
    message: str = ""
    item: int | None = None

    def __str__(self) -> str:
        names = " ".join(name for name in (self.kind, self.code) if name)
        place = f" at {self.field}" if self.field else ""
        item = f" for item {self.item}" if self.item is not None else ""
        text = ": ".join(part for part in (f"{names}{place}".strip(), self.message) if part)
        return f"{self.status}{item}{': ' if text else ', without a word of why'}{text}"


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What certain faults mean. Everything that is given must fit: `status`, `codes` (code or kind), `pattern`.

    `pattern` is a regular expression looked for in the message, in whatever case. The first rule that fits decides.
    """

    means: Means
    status: int | None = None
    codes: frozenset[str] = frozenset()
    pattern: str | None = None


class ErrorShape(msgspec.Struct, frozen=True, kw_only=True):
    """Where a system's answers have their errors: JSON pointers (see `pointers`), tried in order.

    `kind`, `code`, `field`: the first value found. `message`: with `*`, everything found there is joined.
    `status`: a status inside the body that counts instead of the answer's own (items of a bulk answer).

    Errors that arrive with 200, 201 or 207: `failed` leads to what only a failure has, `ok` to a flag that is false.
    `items` leads to the list of outcomes of a bulk answer, in the order sent, and `item` is the shape of each.
    """

    kind: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    field: tuple[str, ...] = ()
    message: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    ok: str | None = None
    items: str | None = None
    item: "ErrorShape | None" = None
    rules: tuple[Rule, ...] = ()


#: For a server of whom nothing is declared: where problems are usually found.
COMMON = ErrorShape(
    kind=("/type", "/error/type"),
    code=("/code", "/error/code", "/errorCode"),
    field=("/field",),
    message=("/detail", "/message", "/error_description", "/error/message", "/title", "/errors/*/message", "/error"),
)


def succeeded(status: int) -> bool:
    """Redirections are not followed, so they are no success; 304 answers a condition that we set."""
    return 200 <= status < 300 or status == 304


def fault_of(answer: Answer, shape: ErrorShape, redactor: Redactor) -> Fault | None:
    """The fault of a whole call, None where it succeeded; items of a bulk answer are `item_faults`."""
    if succeeded(answer.status) and not _says_failure(answer.body, shape):
        return None
    return _fault(answer.status, answer.body, shape, redactor)


def item_faults(answer: Answer, shape: ErrorShape, count: int, redactor: Redactor) -> list[Fault | None]:
    """The outcome of each of `count` items sent in bulk, in the order they were sent.

    Raises:
      ValueError: the answer does not have an outcome for each: nobody knows what became of them.
    """
    if shape.items is None or shape.item is None:
        raise ValueError("the error shape declares no items, so a bulk answer can't be split")
    found = values(answer.body, shape.items)
    items = found[0] if len(found) == 1 and isinstance(found[0], list) else None
    if items is None or len(items) != count:
        got = "no list of outcomes" if items is None else f"{len(items)} outcomes"
        raise ValueError(f"{count} items were sent in bulk and {got} came back")
    return [_item_fault(answer.status, item, shape.item, position, redactor) for position, item in enumerate(items)]


def _item_fault(status: int, item: Any, shape: ErrorShape, position: int, redactor: Redactor) -> Fault | None:
    own = _status_in(item, shape)
    if not _says_failure(item, shape) and (own is None or succeeded(own)):
        return None
    return msgspec.structs.replace(_fault(status, item, shape, redactor), item=position)


def _says_failure(body: Any, shape: ErrorShape) -> bool:
    if shape.ok is not None and not all(values(body, shape.ok)):
        return True
    return first(body, shape.failed) is not None


def _fault(status: int, body: Any, shape: ErrorShape, redactor: Redactor) -> Fault:
    if isinstance(body, str):
        return Fault(status=status, message=_text(body, redactor))
    return Fault(
        status=_status_in(body, shape) or status,
        kind=_text(first(body, shape.kind), redactor),
        code=_text(first(body, shape.code), redactor),
        field=_text(first(body, shape.field), redactor),
        message=_message(body, shape, redactor) or _rest(body, redactor),
    )


def _status_in(body: Any, shape: ErrorShape) -> int | None:
    status = first(body, shape.status)
    return int(status) if isinstance(status, int) or (isinstance(status, str) and status.isdecimal()) else None


def _message(body: Any, shape: ErrorShape, redactor: Redactor) -> str:
    for pointer in shape.message:
        # Several details of one refusal are all worth reading, but not twice.
        texts = dict.fromkeys(text for value in values(body, pointer)[:20] if (text := _text(value, redactor)))
        if texts:
            return _cut("; ".join(texts))
    return ""


def _text(value: Any, redactor: Redactor) -> str:
    if isinstance(value, list):
        return _cut(", ".join(text for part in value[:20] if (text := _text(part, redactor))))
    if value is None or isinstance(value, dict):
        return ""
    # As it came, before its tags go and words move together, and as it will be read; and only then to length: half a
    # secret would not be recognised.
    return _cut(redactor.text(words_of(redactor.excerpt(str(value)))))


def _rest(body: Any, redactor: Redactor) -> str:
    """The whole body, where its error is not at any place that was declared: better than nothing to go by."""
    return _text(msgspec.json.encode(body).decode(), redactor) if body not in (None, {}, []) else ""


def _cut(text: str) -> str:
    return text if len(text) <= message_length_max else text[: message_length_max - 1] + "…"
