from hypothesis import given
from hypothesis import strategies as st

from pipeline.retry import backoff_max_ms, backoff_ms


@given(st.integers(1, 100), st.floats(0, 1, exclude_max=True))
def test_backoff_stays_within_its_bound(attempt, draw):
    assert 500 <= backoff_ms(attempt, draw=draw) <= backoff_max_ms


@given(st.integers(1, 30))
def test_backoff_increases_with_subsequent_attempts_for_the_same_luck(attempt):
    assert backoff_ms(attempt, draw=0.5) <= backoff_ms(attempt + 1, draw=0.5)
