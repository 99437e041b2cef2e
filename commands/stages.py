"""`tieout stages`: the pipeline in order, with its channels and queues."""

from typing import Any

import click

from actors import STAGES
from broker.topology import Topology
from commands.output import json_option, print_json, print_table
from commands.session import current_settings
from contracts.envelope import LANES
from pipeline.stage import Stage


@click.command()
@json_option
def stages(as_json: bool) -> None:
    """List the stages in order: what each consumes and emits, and the queues it is fed from.

    \b
    Example:
      tieout stages
    """
    settings = current_settings()
    topology = Topology(settings.prefix, tuple(f"{stage.name}.{lane}" for stage in STAGES for lane in LANES))
    documents = [_document(stage, topology) for stage in STAGES]
    if as_json:
        print_json(documents)
        return
    print_table(
        ("stage", "consumes", "emits", "runs", "queues", "what it does"),
        [
            (
                document["stage"],
                document["consumes"],
                f"several {document['emits']}" if document["splits"] else document["emits"],
                "on the loop" if document["waits"] else "in a worker thread",
                "in this process" if settings.embedded else ", ".join(document["queues"]),
                document["what"],
            )
            for document in documents
        ],
        below=(("queues", "what it does"),),
    )


def _document(stage: Stage, topology: Topology) -> dict[str, Any]:
    return {
        "stage": stage.name,
        "consumes": _name(stage.consumes),
        "emits": _name(stage.emits),
        "splits": stage.splits,
        "waits": stage.waits,
        "reads_history": stage.reads_history,
        "queues": [topology.work_queue(f"{stage.name}.{lane}").name for lane in LANES],
        "what": (stage.handle.__doc__ or "").strip().partition("\n")[0],
    }


def _name(contract: Any) -> str:
    """A contract's name; a union of documents is called by what they are."""
    return contract.__name__ if isinstance(contract, type) else "Document"
