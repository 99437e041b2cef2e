"""Kinds of systems that targets can be set up of, and how what is said about a target becomes its options."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

import msgspec
from msgspec import NODEFAULT
from msgspec.structs import FieldInfo

from connectors.http.secrets import Secret
from pipeline.ports import Target, Translator

if TYPE_CHECKING:
    from connectors.http.client import Gate  # slow to load, and of no use where there is no such target

#: The option that is given the target's own name.
NAME = "name"

_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


class InvalidOptions(ValueError):
    """What is said about a target does not make one; the text names the option, and never a secret."""


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of system; any number of targets can be set up of it.

    `options` is a Struct: a field per option, with its type and default, fields of Struct type a group of options, and
    those of type `Secret` what is never written down. Its field `name` is the target's. What an option means stands
    under `Attributes:` in the docstring of the Struct.
    `open` makes no call yet; what it opens goes through the gate for every call.
    """

    name: str
    summary: str
    options: type[msgspec.Struct]
    open: "Callable[[Any, Gate], Target]"
    translator: Callable[[str], Translator]


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """What can be said: `type` in words, `default` as a JSON value, `about` one sentence."""

    name: str
    type: str
    required: bool
    default: Any = None
    secret: bool = False
    about: str = ""


def options_of(kind: Kind) -> list[Option]:
    """Every option of a kind, those that must be given first."""
    found = [_option(name, field, about) for name, field, about in _fields(kind.options)]
    return sorted(found, key=lambda option: not option.required)


def checked(kind: Kind, said: Mapping[str, Any], secrets: Mapping[str, str]) -> dict[str, Any]:
    """The options as JSON values of their types; `said` may have text throughout, as a command line has.

    Args:
      secrets: the environment variable by option.

    Raises:
      InvalidOptions: an option is not known, of another type, left out, or given in the wrong way.
    """
    fields = {name: field for name, field, _ in _fields(kind.options)}
    for name in (*said, *secrets):
        if name not in fields:
            raise InvalidOptions(f"{kind.name} has no option {name!r}: {_known(kind)}")
    for name, variable in secrets.items():
        if not _is_secret(fields[name]):
            raise InvalidOptions(f"{name} is no secret: --set {name}=VALUE")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable):
            raise InvalidOptions(f"--secret {name} names an environment variable: letters, digits and underscores")
    values = {name: _checked(name, fields[name], value) for name, value in said.items()}
    missing = [name for name, field in fields.items() if field.required and name not in (*values, *secrets)]
    if missing:
        ways = (f"--secret {one}=VARIABLE" if _is_secret(fields[one]) else f"--set {one}=VALUE" for one in missing)
        raise InvalidOptions(f"{kind.name} needs {', '.join(missing)}: {' '.join(ways)}")
    # Rules between options, as far as they do not depend on the secrets.
    _made(kind, "target", values, dict.fromkeys(secrets, Secret("unread")))
    return values


def made(kind: Kind, name: str, options: Mapping[str, Any], secrets: Mapping[str, Secret]) -> msgspec.Struct:
    """The options of a target that is to be opened, defaults filled in.

    Raises:
      InvalidOptions: they are those of another release.
    """
    return _made(kind, name, options, secrets)


def _made(kind: Kind, name: str, options: Mapping[str, Any], secrets: Mapping[str, Secret]) -> msgspec.Struct:
    tree: dict[str, Any] = {NAME: name}
    for path, value in (*options.items(), *secrets.items()):
        *groups, last = path.split(".")
        branch = tree
        for group in groups:
            branch = branch.setdefault(group, {})
        branch[last] = value
    try:
        return msgspec.convert(tree, kind.options, dec_hook=_decode)
    except (msgspec.ValidationError, ValueError) as error:
        raise InvalidOptions(f"{kind.name}: {error}") from None


def _fields(options: type[msgspec.Struct], prefix: str = "") -> Iterator[tuple[str, FieldInfo, str]]:
    """Every option with the name it is given by, its field, and what it means."""
    meanings = _meanings(options.__doc__ or "")
    for field in msgspec.structs.fields(options):
        kind = _bare(field.type)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            yield from _fields(kind, f"{prefix}{field.name}.")
        elif prefix or field.name != NAME:
            yield prefix + field.name, field, meanings.get(field.name, "")


def _meanings(docstring: str) -> dict[str, str]:
    """What a docstring says under `Attributes:`, by attribute."""
    _, _, section = docstring.partition("Attributes:\n")
    entries = re.findall(r"^\s{4,}(\w+): (.+(?:\n\s{7,}(?!\w+: ).+)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def _option(name: str, field: FieldInfo, about: str) -> Option:
    default = field.default if field.default_factory is NODEFAULT else field.default_factory()
    return Option(
        name=name,
        type="a secret" if _is_secret(field) else _in_words(field.type),
        required=field.required,
        default=None if field.required else msgspec.to_builtins(default),
        secret=_is_secret(field),
        about=about,
    )


def _in_words(kind: Any) -> str:
    bare = _bare(kind)
    if get_origin(bare) is Literal:
        return " or ".join(map(str, get_args(bare)))
    if _is_list(bare):
        return "a list, separated by commas"
    return _WORDS.get(bare, getattr(bare, "__name__", str(bare)))


def _bare(kind: Any) -> Any:
    """A type without its constraints, and without `| None`."""
    if get_origin(kind) is Annotated:
        return _bare(get_args(kind)[0])
    if type(None) in get_args(kind):
        (only, *_) = (one for one in get_args(kind) if one is not type(None))
        return _bare(only)
    return kind


def _is_secret(field: FieldInfo) -> bool:
    return _bare(field.type) is Secret


def _is_list(bare: Any) -> bool:
    return get_origin(bare) in (tuple, list)


def _checked(name: str, field: FieldInfo, value: Any) -> Any:
    if _is_secret(field):
        raise InvalidOptions(f"{name} is secret: --secret {name}=VARIABLE names the environment variable that holds it")
    if isinstance(value, str):
        if not value.strip():
            raise InvalidOptions(f"{name} is empty")
        if "://" in value or name.rpartition(".")[2] == "url":
            _check_address(name, value)
        if _is_list(_bare(field.type)):
            value = [one.strip() for one in value.split(",") if one.strip()]
    try:
        return msgspec.to_builtins(msgspec.convert(value, field.type, strict=False))
    except msgspec.ValidationError as error:
        # Beside the type in our words, only a constraint has more to say.
        more = "" if ", got " in str(error) else f" ({error})"
        raise InvalidOptions(f"{name}={value!r}: expected {_in_words(field.type)}{more}") from None


def _check_address(name: str, value: str) -> None:
    """Addresses are shown: nothing in them may be secret."""
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise InvalidOptions(f"{name}: expected an address, http://HOST:PORT or https://HOST")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InvalidOptions(f"{name} carries a user, a password or a query: leave them out of the address")


def _known(kind: Kind) -> str:
    return "there are " + ", ".join(f"{option.name} ({option.type})" for option in options_of(kind))


def _decode(kind: type, value: Any) -> Any:
    if kind is Secret and isinstance(value, Secret):
        return value
    raise ValueError(f"{kind.__name__} can't be made from what is written down")
