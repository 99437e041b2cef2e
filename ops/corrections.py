"""A correction: a person changes a dead letter's record before it is sent back; the original stays in the audit."""

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import msgspec

from actors import STAGES
from contracts.failure import DeadLetter
from pipeline.stage import Stage

if TYPE_CHECKING:
    from ops.bootstrap import Engine

#: The parts of a later stage's input in which a field may stand, the nearest first.
PARTS = ("document", "attribution", "body")


class InvalidCorrection(ValueError):
    """The corrected body does not fit; the text names the field and what was expected."""


async def correct(
    engine: "Engine", letter_id: str, changes: dict[str, str], body: bytes | None, actor: str, reason: str
) -> msgspec.Raw:
    """Change fields of an open dead letter, or replace its body; the new body, checked against its stage's contract.

    Raises:
      UnknownLetter, LetterNotOpen: from the archive.
      InvalidCorrection: an unknown field, a value of the wrong kind, another id, or a letter without a body of ours.
    """
    detail = await engine.dead_letters.show(letter_id)
    if detail.decoded is None:
        raise InvalidCorrection(f"dead letter {letter_id!r} is no record of ours: export or discard it")
    corrected = corrected_body(detail.decoded, changes, body)
    await engine.dead_letters.edit(letter_id, corrected, actor, reason)
    return msgspec.Raw(corrected)


def corrected_body(letter: DeadLetter, changes: dict[str, str], body: bytes | None) -> bytes:
    """The stage's input with these fields changed (an empty value removes one), or `body` in its place."""
    stage = next((stage for stage in STAGES if stage.name == letter.failure.stage), None)
    if stage is None:
        raise InvalidCorrection(f"stage {letter.failure.stage!r} is not part of the pipeline: nothing can be checked")
    before = _decoded(bytes(letter.body))
    after = _decoded(body) if body is not None else _changed(before, changes)
    if _id(after) != _id(before):
        raise InvalidCorrection(f"id: a record keeps its id, {_id(before)!r}; a new id is a new record in the source")
    checked = _checked(stage, after)
    for field in changes:
        _known(checked, after, field)
    return msgspec.json.encode(checked)


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidCorrection(f"not JSON: {error}") from None
    if not isinstance(content, dict):
        raise InvalidCorrection("expected a JSON object")
    return content


def _changed(before: dict[str, Any], changes: dict[str, str]) -> dict[str, Any]:
    after: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(before))
    for path, value in changes.items():
        parent, field = _place(after, path)
        if value == "":
            parent.pop(field, None)
        else:
            parent[field] = value
    return after


def _place(content: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    """Where a field stands: by its dotted path, else beside its siblings in the document that the stage was given."""
    *parents, field = path.split(".")
    if not parents and field not in content:
        parents = next(([part] for part in PARTS if isinstance(content.get(part), dict)), [])
    for name in parents:
        if not isinstance(content.get(name), dict):
            raise InvalidCorrection(f"{path}: there is no {name!r}; see `tieout dead show`")
        content = content[name]
    return content, field


def _checked(stage: Stage, content: dict[str, Any]) -> Any:
    """Values typed on a command line are text: `7.5`, `true` and `2026-03-01` are read as what the field is."""
    try:
        return msgspec.json.decode(msgspec.json.encode(content), type=stage.consumes, strict=False)
    except msgspec.DecodeError as error:
        raise InvalidCorrection(f"does not fit the input of {stage.name}: {error}") from None


def _known(checked: Any, content: dict[str, Any], path: str) -> None:
    """A contract ignores fields it does not know; a person who mistypes one must hear of it."""
    encoded = msgspec.json.decode(msgspec.json.encode(checked))
    parent, field = _place(encoded, path)
    if field not in parent and field in _place(content, path)[0]:
        close = get_close_matches(field, parent, 1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(parent)}"
        raise InvalidCorrection(f"{path}: no such field{hint}")


def _id(content: dict[str, Any]) -> Any:
    document = content.get("document")
    return (document if isinstance(document, dict) else content).get("id", content.get("reference"))
