"""An answer as connectors see it: status, headers and a body that has been decoded, or the reason why it can't be."""

import re
from html import unescape
from typing import Any

import httpx
import msgspec

from connectors.http.bounded import UNREADABLE
from connectors.http.pointers import decoded


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """`body` is plain values where it is JSON (numbers with a point are Decimal), else text; None where it is empty.

    `url` is the address that answered: links inside are relative to it. `unreadable` says why the body can't be
    trusted: cut off at the bound, badly packed, or not the JSON that its header promises.
    """

    status: int
    headers: httpx.Headers
    body: Any
    is_json: bool = False
    url: str = ""
    unreadable: str | None = None

    def __repr__(self) -> str:
        # Not the body, which has people in it, nor the address, whose query may have a key.
        return f"Answer(status={self.status})"


def answer_of(response: httpx.Response) -> Answer:
    """Decode a response that has been read."""
    unreadable: str | None = response.extensions.get(UNREADABLE)
    body: Any = None
    is_json = False
    content = response.content.removeprefix(b"\xef\xbb\xbf").strip()
    promised = "json" in response.headers.get("content-type", "").lower()
    if content and (promised or content[:1] in b'{["') and unreadable is None:
        try:
            body, is_json = decoded(content), True
        except ValueError as error:
            unreadable = f"it is not JSON: {error}" if promised else None
            body = text_of(response)
    elif content:
        body = text_of(response)
    return Answer(
        status=response.status_code,
        headers=response.headers,
        body=body,
        is_json=is_json,
        url=str(response.url),
        unreadable=unreadable,
    )


def text_of(response: httpx.Response) -> str:
    """The body as text, whatever its bytes are."""
    try:
        return response.content.decode(response.charset_encoding or "utf-8", errors="replace")
    except (LookupError, ValueError):
        return response.content.decode("utf-8", errors="replace")


def words_of(text: str) -> str:
    """What a person would read of a page: HTML and XML without their tags, blanks drawn together."""
    if "<" in text:
        text = re.sub(r"(?is)<(script|style|head)\b[^>]{0,500}>.*?(?:</\1\s*>|\Z)|<!--.*?(?:-->|\Z)", _title, text)
        text = unescape(re.sub(r"<[^<>]*>?", " ", text))
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def _title(match: re.Match[str]) -> str:
    title = re.search(r"(?is)<title[^>]*>([^<]*)", match.group())
    return f" {title.group(1)} " if title else " "
