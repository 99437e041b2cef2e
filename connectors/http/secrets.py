"""Secrets: values that never show themselves, and a redactor for texts that others wrote."""

import hmac
import html
import json
import re
from collections import deque
from typing import Any, NoReturn
from urllib.parse import quote, quote_plus, urlsplit, urlunsplit

SHOWN = "***"
#: A known value shorter than this is not searched for in texts: it would be found in every other word.
known_length_min = 4
#: Tokens come and go. So many values of the recent past are looked for; no answer still quotes an older one.
known_count_max = 64
#: So much of a text is looked at for something to quote, and so long a secret may be to be seen at its end.
excerpt_length_max, secret_length_max = 64_000, 8_000


class Secret:
    """A value that repr, str, format and encoders never show; `reveal` is the only way to it.

    msgspec, json and pickle refuse it with a TypeError, `encoded` as `enc_hook` makes msgspec write `***`.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        # What is read from a file ends with a line break, and one inside a header is quoted in the error about it.
        self._value = value.strip()
        if not self._value or any(ord(character) < 32 for character in self._value):
            raise ValueError("a secret is empty or has a control character inside: look at where it is set")

    def reveal(self) -> str:
        """The value, for the request that needs it and nothing else."""
        return self._value

    def __repr__(self) -> str:
        return SHOWN

    def __format__(self, spec: str) -> str:
        return format(SHOWN, spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Secret":
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret can't be pickled")


def encoded(value: Any) -> str:
    """`enc_hook` for msgspec: a settings struct can be shown, its secrets can't."""
    if isinstance(value, Secret):
        return SHOWN
    raise TypeError(f"{type(value).__name__} can't be encoded")


#: Names whose values are secret wherever they stand: in a header, a query string, a form or JSON.
NAMES = (
    r"(?:proxy-)?authorization|(?:set-)?cookie|x-csrf-token|[\w-]*api[_-]?key|x-auth-token|x-[\w-]*api-key|apikey"
    r"|[\w-]*access[_-]?token|[\w-]*refresh[_-]?token|id[_-]token|session[_-]?(?:id|token)?|token|sid|jsessionid"
    r"|[\w-]*passw(?:or)?d|passphrase|pwd|[\w-]*secret|client[_-]assertion|assertion|private[_-]key|signature|code_verifier"
)
#: In the order they are tried. Where in doubt they take too much: a message loses a word rather than a secret.
TRACES = (
    # Header lines, whose values have spaces: to the end of the line.
    (
        re.compile(r"(?im)\b((?:proxy-)?authorization|(?:set-)?cookie)(\\{0,7}[\"']?\s*[:=]\s*)[^\r\n]+"),
        rf"\1\2{SHOWN}",
    ),
    # JSON, also inside a string of JSON, and Python's way of writing a dict.
    (
        re.compile(
            rf"""(\\{{0,7}}["'])({NAMES})(\\{{0,7}}["']\s*:\s*)"""
            r"""(?:"(?:\\.|[^"\\])*"?|'(?:\\.|[^'\\])*'?|(\\{1,7}["'])(?:(?!\4).)*(?:\4)?|[^\s,}\]]+)""",
            re.IGNORECASE | re.DOTALL,
        ),
        rf"\1\2\3{SHOWN}",
    ),
    # Query strings, forms, and prose like `password: x`.
    (re.compile(rf"(?<![\w-])({NAMES})(\s*[=:]\s*|%3D)[^\s&;,\"'<>]+", re.IGNORECASE), rf"\1\2{SHOWN}"),
    (re.compile(r"\b(Bearer|Basic|Session|Negotiate)\s+[\w.~+/=-]{8,}", re.IGNORECASE), rf"\1 {SHOWN}"),
    # Signed tokens: two parts of JSON in base64.
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?"), SHOWN),
)


class Redactor:
    """Takes secrets out of what an error or a log line quotes: those it knows by value, and others by their names."""

    def __init__(self) -> None:
        self._lasting: set[str] = set()
        self._recent: deque[str] = deque(maxlen=known_count_max)
        self._pattern: re.Pattern[str] | None = None

    def know(self, *secrets: Secret) -> None:
        """Look for these from now on, in whatever encoding they come back."""
        self._lasting |= {secret.reveal() for secret in secrets}
        self._look()

    def know_for_now(self, *tokens: Secret | str) -> None:
        """Look for these until `known_count_max` newer ones have come."""
        self._recent.extend(token.reveal() if isinstance(token, Secret) else token for token in tokens)
        self._look()

    def _look(self) -> None:
        known = {value for value in (*self._lasting, *self._recent) if len(value) >= known_length_min}
        forms = {form for value in known for form in forms_of(value)}
        # The longest first: one secret may be the beginning of another.
        self._pattern = re.compile("|".join(map(re.escape, sorted(forms, key=len, reverse=True)))) if forms else None

    def text(self, text: str) -> str:
        """Any text: an error message, a header, a body."""
        text = self._without_known(text)
        for pattern, shown in TRACES:
            text = pattern.sub(shown, text)
        return text

    def excerpt(self, text: str) -> str:
        """The beginning of a text of any length; a secret at the cut is not left in half."""
        if len(text) <= excerpt_length_max:
            return self.text(text)
        return self.text(text[:excerpt_length_max])[:-secret_length_max]

    def url(self, url: str) -> str:
        """An address without its user, query and fragment."""
        parts = urlsplit(url)
        return self.text(urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")))

    def _without_known(self, text: str) -> str:
        return self._pattern.sub(SHOWN, text) if self._pattern else text


def forms_of(value: str) -> set[str]:
    """A value as it reads in a URL, a form, JSON and HTML. Python's repr of it is among these, or the value itself."""
    return {
        value,
        quote(value),
        quote(value, safe=""),
        quote_plus(value),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        json.dumps(json.dumps(value)[1:-1])[1:-1],
        html.escape(value),
        repr(value)[1:-1],
    }
