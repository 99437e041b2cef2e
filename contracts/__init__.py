"""The canonical data model: one file per business document, one Struct per version."""

from contracts.base import Contract
from contracts.customer import Customer
from contracts.expense import Expense
from contracts.project import Project
from contracts.rate_card import RateCard
from contracts.time_entry import TimeEntry
from contracts.worker import Worker

#: Every document type that can be ingested, by name and version, in the order they depend on each other.
DOCUMENT_TYPES: dict[str, type[Contract]] = {
    "customer.v1": Customer,
    "project.v1": Project,
    "worker.v1": Worker,
    "rate_card.v1": RateCard,
    "time_entry.v1": TimeEntry,
    "expense.v1": Expense,
}
