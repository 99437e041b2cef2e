"""The stages, in order: what one emits, the next one consumes."""

from actors.enrich import enrich
from actors.post import post
from actors.reconcile import reconcile
from actors.transform import transform
from actors.validate import validate
from pipeline.stage import Stage

STAGES: tuple[Stage, ...] = (
    validate,
    enrich,
    transform,
    post,
    reconcile,
)
