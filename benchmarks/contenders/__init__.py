"""The contenders, in the order in which they take their turns. The run itself imports none of them."""

import msgspec

QUORUM, CLASSIC = "quorum", "classic"


class Entrant(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the table: a contender, and the queue type it runs with.

    `peer` names the library it stands for; one that takes its turn with several queue types is judged by its best row.
    A `bulk` row carries batches and is measured in records. `weight` is how many events it gets, by those of the plan.
    """

    name: str
    module: str
    queue_type: str = QUORUM
    peer: str | None = None
    needs_database: bool = False
    bulk: bool = False
    weight: float = 1


def _entrant(name: str, module: str | None = None, **options: object) -> Entrant:
    return msgspec.convert({"name": name, "module": f"benchmarks.contenders.{module or name}", **options}, Entrant)


#: Some take two turns, for they declare classic queues by default; ours and Taskiq's are quorum queues anyway.
_ALL = (
    _entrant("tieout", needs_database=True),
    _entrant("tieout-main-job", "main_job", needs_database=True, weight=0.2),
    _entrant("broker"),
    _entrant("dramatiq", queue_type=CLASSIC, peer="dramatiq"),
    _entrant("dramatiq-quorum", "dramatiq", peer="dramatiq"),
    _entrant("celery", peer="celery"),
    _entrant("celery-classic", "celery", queue_type=CLASSIC, peer="celery"),
    _entrant("faststream", peer="faststream"),
    _entrant("faststream-classic", "faststream", queue_type=CLASSIC, peer="faststream"),
    _entrant("taskiq", peer="taskiq"),
    _entrant("pika"),
    _entrant("tieout-bulk", "tieout", needs_database=True, bulk=True, weight=10),
    _entrant("broker-bulk", "broker", bulk=True, weight=20),
)
ENTRANTS: dict[str, Entrant] = {entrant.name: entrant for entrant in _ALL}
