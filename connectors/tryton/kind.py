"""Tryton among the kinds of systems that targets can be set up of."""

from connectors.kinds import Kind
from connectors.tryton.config import TrytonConfig
from connectors.tryton.mapping import TrytonTranslator
from connectors.tryton.target import TrytonTarget

TRYTON = Kind(
    name="tryton",
    summary="Tryton 8.0 or 8.2, over its JSON-RPC",
    options=TrytonConfig,
    open=TrytonTarget,
    translator=TrytonTranslator,
)
