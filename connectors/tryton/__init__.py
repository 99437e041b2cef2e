"""Tryton (8.0, 8.2) as a target, over its JSON-RPC.

Capabilities: bulk posting with per-document outcomes, reversal, totals. It lacks a unique reference for every kind of
document (`target.LACKS`); time entries have one.
"""

from connectors.tryton.config import TrytonConfig
from connectors.tryton.mapping import TrytonTranslator
from connectors.tryton.target import TrytonTarget

__all__ = ["TrytonConfig", "TrytonTarget", "TrytonTranslator"]
