from datetime import UTC, datetime

import msgspec

from contracts.failure import DeadLetter, Failure
from contracts.money import NOTHING
from ops.requeueing import continuation, messages_for
from pipeline.messages import decode
from pipeline.settings import Settings

SETTINGS = Settings(database_url="sqlite+aiosqlite://", bulk_batch_records_max=3)
FAILED_AT = datetime(2026, 3, 1, tzinfo=UTC)


def a_letter(number: int, *, stage: str = "enrich", lane: str = "bulk", body: bytes = b"{}") -> DeadLetter:
    failure = Failure(
        stage=stage,
        code="MAPPING_MISSING",
        category="business",
        owner="finance",
        message="no mapping",
        attempts=1,
        first_at=FAILED_AT,
        last_at=FAILED_AT,
    )
    return DeadLetter(
        id=f"d-{number}",
        record_id=f"r-{number}",
        source="psa",
        document_type="expense.v1",
        subject=f"E-{number}",
        revision="1",
        correlationid=f"c-{number}",
        lane=lane,
        failure=failure,
        amount=NOTHING,
        body=msgspec.Raw(body),
    )


def records_of(rows):
    return [[item.id for item in decode(row.body).items] for row in rows]


def test_like_letters_travel_together_up_to_the_bound():
    rows = messages_for([a_letter(number) for number in range(5)], SETTINGS)
    assert records_of(rows) == [["r-0", "r-1", "r-2"], ["r-3", "r-4"]]
    assert [row.records for row in rows] == [3, 2]


def test_letters_go_back_to_their_own_stages_and_lanes():
    rows = messages_for([a_letter(1), a_letter(2, stage="post"), a_letter(3, lane="live")], SETTINGS)
    assert {(row.stage, row.lane, row.records) for row in rows} == {
        ("enrich", "bulk", 1),
        ("post", "bulk", 1),
        ("enrich", "live", 1),
    }


def test_live_letters_travel_one_by_one():
    assert records_of(messages_for([a_letter(1, lane="live"), a_letter(2, lane="live")], SETTINGS)) == [
        ["r-1"],
        ["r-2"],
    ]


def test_messages_stay_below_the_bound_on_bytes():
    large = b'"' + b"x" * 400_000 + b'"'
    assert len(messages_for([a_letter(number, body=large) for number in range(3)], SETTINGS)) == 2


def test_the_same_failures_make_the_same_message_and_others_another():
    again = msgspec.structs.replace(
        a_letter(1), failure=msgspec.structs.replace(a_letter(1).failure, last_at=datetime.now(UTC))
    )
    first = continuation([a_letter(1)]).envelope.id
    assert first == continuation([a_letter(1)]).envelope.id
    assert first != continuation([again]).envelope.id
