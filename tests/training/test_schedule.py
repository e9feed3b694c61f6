from hypothesis import given
from hypothesis import strategies as st

from palate.training.schedule import FLOOR, WARMUP_STEPS, rate_factor


def test_the_rate_rises_over_the_warmup_and_falls_to_the_floor():
    factors = [rate_factor(epoch, place, 500, 4) for epoch in range(4) for place in range(500)]
    assert factors[0] == 1 / WARMUP_STEPS
    peak = factors.index(max(factors))
    assert peak == WARMUP_STEPS - 1
    assert sorted(factors[: peak + 1]) == factors[: peak + 1]
    assert sorted(factors[peak:], reverse=True) == factors[peak:]
    assert FLOOR < factors[-1] < FLOOR + 0.001


def test_halfway_is_halfway_to_the_floor():
    assert rate_factor(2, 0, 500, 4) == 1 - (1 - FLOOR) / 2


def test_a_short_stage_warms_up_over_a_tenth_of_it():
    assert [rate_factor(0, place, 20, 1) for place in range(3)] == [0.5, 0.9525, 0.905]


@given(st.integers(1, 50), st.integers(1, 50), st.data())
def test_the_rate_is_never_zero_nor_above_the_peak(n_batches, n_epochs, data):
    epoch = data.draw(st.integers(0, n_epochs - 1))
    place = data.draw(st.integers(0, n_batches - 1))
    assert 0 < rate_factor(epoch, place, n_batches, n_epochs) <= 1
