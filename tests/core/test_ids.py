from hypothesis import given
from hypothesis import strategies as st

from leptonai.core import ids


def test_ids_sort_in_the_order_they_were_made() -> None:
    made = [ids.new_id("run") for _ in range(2000)]
    assert made == sorted(made)
    assert len(set(made)) == 2000
    assert all(len(id) == 30 and id.startswith("run_") for id in made)


@given(back=st.integers(1, 10**12))
def test_a_clock_that_steps_back_changes_nothing(back: int) -> None:
    before = ids.new_id("x")
    real = ids.time.time_ns
    try:
        ids.time.time_ns = lambda: real() - back  # type: ignore[assignment]
        assert ids.new_id("x") > before
    finally:
        ids.time.time_ns = real
