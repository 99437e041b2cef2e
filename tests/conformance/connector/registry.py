"""The connectors under test: a new one adds its subject here, and passes the suite."""

from tests.conformance.connector.subjects import LedgerSubject, MasterDataSubject, Subject
from tests.conformance.connector.tryton_subject import StricterTrytonSubject, TrytonSubject

SUBJECTS: dict[str, type[Subject]] = {
    "ledger": LedgerSubject,
    "masterdata": MasterDataSubject,
    "tryton": TrytonSubject,
    "tryton_8_2": StricterTrytonSubject,
}
