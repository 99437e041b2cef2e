"""The pipeline has no loose ends: every stage is listed, and what one emits the next one consumes."""

import pkgutil
from itertools import pairwise

import pytest

import actors
from actors import STAGES
from contracts import DOCUMENT_TYPES
from contracts.channels import Document, Reconciled
from pipeline.stage import Stage


def test_every_file_in_actors_is_a_stage_and_every_stage_is_listed():
    files = {module.name for module in pkgutil.iter_modules(actors.__path__)}
    assert files == {stage.name for stage in STAGES}


def test_the_stages_stand_in_the_order_in_which_a_record_meets_them():
    names = [stage.name for stage in STAGES]
    assert len(set(names)) == len(names)
    assert names[0] == "validate"
    assert names[-1] == "reconcile"


@pytest.mark.parametrize(("stage", "next_stage"), list(pairwise(STAGES)), ids=lambda stage: stage.name)
def test_what_a_stage_emits_the_next_one_consumes(stage: Stage, next_stage: Stage):
    assert stage.emits == next_stage.consumes


def test_the_pipeline_takes_documents_and_ends_with_them_reconciled():
    assert STAGES[0].consumes == Document
    assert STAGES[-1].emits == Reconciled


def test_every_document_type_that_can_be_ingested_has_a_way_through():
    assert set(Document.__args__) == set(DOCUMENT_TYPES.values())


def test_only_stages_that_talk_to_a_target_wait():
    assert [stage.name for stage in STAGES if stage.waits] == ["post", "reconcile"]


def test_only_transform_makes_several_of_one():
    assert [stage.name for stage in STAGES if stage.splits] == ["transform"]
