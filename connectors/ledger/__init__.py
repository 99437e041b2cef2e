"""The embedded ledger: a target that needs nothing installed.

Capabilities: bulk posting with per-document outcomes, unique reference, reversal, totals. It lacks nothing the port
asks for. Documents are journal entries (`journal.JournalEntry`), made by `mapping.LedgerTranslator`.
"""

from connectors.ledger.config import LedgerConfig
from connectors.ledger.mapping import LedgerTranslator
from connectors.ledger.target import EmbeddedLedger

__all__ = ["EmbeddedLedger", "LedgerConfig", "LedgerTranslator"]
