"""Transform: from the canonical record to the document of each target that routing names (message translator)."""

from contracts.channels import Enriched, TargetDocument
from pipeline.codes import NO_ROUTE
from pipeline.errors import PermanentError
from pipeline.ports import posting_key
from pipeline.rules import business_date
from pipeline.stage import Context, stage


@stage
def transform(enriched: Enriched, context: Context) -> tuple[TargetDocument, ...]:
    """Route by document type, legal entity and date; translate once per target.

    Raises:
      PermanentError: no rule names a target, a target is not connected, or it could not take the document.
      MappingMissing: the target needs a value that nobody has mapped.
      TransientError: a target is of a kind that this process does not know.
    """
    document_type, entity = context.envelope.type, enriched.attribution.legal_entity
    on = business_date(enriched.document, context.today)
    targets = context.rules.targets_of(document_type, entity, on)
    if not targets:
        raise PermanentError(NO_ROUTE, f"no [[routing]] rule fits {document_type} of legal entity {entity!r} on {on}")
    return tuple(translated(enriched, target, context) for target in targets)


def translated(enriched: Enriched, target: str, context: Context) -> TargetDocument:
    """The target's own document under the posting key, which is the same however often the record comes by."""
    envelope, item = context.envelope, context.item
    reference = posting_key(target, envelope.type, envelope.source, item.subject, item.revision)
    return context.translator(target).translate(enriched, reference, context)
