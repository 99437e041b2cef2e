"""The catalogue: the kinds of systems that targets can be set up of with `tieout target add`. One line adds a kind."""

from importlib import import_module

from connectors.kinds import Kind

#: Where each kind is declared, by its name (`module:attribute`): imported only where there is such a target.
KINDS: dict[str, str] = {"tryton": "connectors.tryton.kind:TRYTON"}


class UnknownKind(ValueError):
    """There is no such kind here; the text says which there are."""


def kind_of(name: str) -> Kind:
    """The kind of this name.

    Raises:
      UnknownKind: it is misspelt, or one of another release.
    """
    if name not in KINDS:
        raise UnknownKind(f"no kind of target {name!r}: there are {', '.join(KINDS) or 'none'}")
    module, _, attribute = KINDS[name].partition(":")
    kind: Kind = getattr(import_module(module), attribute)
    return kind
