"""Message translator for master data: customers, projects, workers and rate cards go to our own tables as they are."""

from datetime import date

import msgspec

from contracts.channels import MASTER_DATA, Enriched, TargetDocument
from contracts.money import NOTHING
from pipeline.codes import TARGET_REFUSED
from pipeline.errors import PermanentError
from pipeline.stage import Context

TARGET = "masterdata"
#: The field that says from when on the record holds, where its type has one.
_EFFECTIVE_FROM = ("effective_from", "valid_from", "hired_on")

_encoder = msgspec.json.Encoder()


class MasterDataTranslator:
    """`pipeline.ports.Translator` for the target `masterdata`."""

    def translate(self, enriched: Enriched, reference: str, context: Context) -> TargetDocument:
        """The canonical document itself, encoded; `kind` is its type, it is worth nothing, and its date is the day it
        holds from (the day of the message where it does not say).

        Raises:
          PermanentError: TARGET_REFUSED, the document is no master data.
        """
        document = enriched.document
        if not isinstance(document, MASTER_DATA):
            message = f"masterdata: {type(document).__name__} is no master data: correct [[routing]] in the rules"
            raise PermanentError(TARGET_REFUSED, message)
        starts = (getattr(document, field, None) for field in _EFFECTIVE_FROM)
        return TargetDocument(
            target=TARGET,
            kind=str(document.__struct_config__.tag),
            reference=reference,
            date=next((day for day in starts if isinstance(day, date)), context.today),
            legal_entity=enriched.attribution.legal_entity,
            amount=NOTHING,
            body=msgspec.Raw(_encoder.encode(document)),
        )
