import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import rules_loops

from sidestep.guidance import Needs, Prediction, Static
from sidestep.sampling import NoiseSchedule

TIMESTEPS = [level.timestep for level in NoiseSchedule.scaled_linear().grid(50)]


def scales_of(rule, timesteps, batch):
    """The scale at each step, (T, B)."""
    state = rule.init(batch)
    zero = torch.zeros(batch, 3)
    rows = []
    for t in timesteps:
        guided, state = rule.step(Prediction(zero, zero + 1, t / 1000), state)
        rows.append(guided.scale)
    return torch.stack(rows)


@given(
    st.lists(st.integers(0, 1000), min_size=1, max_size=5),
    st.sampled_from([0.0, 1.0, -2.0]),
    st.sampled_from([7.5, 3.0]),
)
def test_each_sample_follows_the_literal_loop_at_its_own_time(changes, before, after):
    rule = Static(tuple(c / 1000 for c in changes), before=before, after=after)
    scales = scales_of(rule, TIMESTEPS, len(changes))
    for b, change in enumerate(changes):
        assert scales[:, b].tolist() == rules_loops.static(TIMESTEPS, change, before, after)


@pytest.mark.parametrize(
    "change, off, first", [(500, 25, 500), (650, 18, 639), (600, 20, 599), (700, 15, 699)]
)
def test_the_papers_times_switch_where_its_script_does(change, off, first):
    # Steps off and first guided timestep on the 50-step grid, counted with the released loop.
    on = scales_of(Static(change / 1000, before=-2.0), TIMESTEPS, 1)[:, 0] == 7.5
    assert int((~on).sum()) == off
    assert TIMESTEPS[int(on.nonzero()[0])] == first


def test_a_time_that_is_reached_exactly_is_guided_however_it_was_computed():
    # 0.1 * 7 is above 0.7 and 0.1 * 3 - 0.1 below 0.2 or above it, by one rounding.
    for time, asked in ((0.7, 0.1 * 7), (0.1 * 7, 0.7), (0.2, 0.1 * 3 - 0.1)):
        rule = Static(asked)
        zero = torch.zeros(1, 2)
        guided, _ = rule.step(Prediction(zero, zero + 1, time), rule.init(1))
        assert guided.on.all()
        assert rule.needs(time) == Needs()


def test_needs_are_what_the_scales_need():
    rule = Static((0.7, 0.5), before=0.0, after=7.5)
    assert rule.needs(0.8) == Needs(cond=False)
    assert rule.needs(0.6) == Needs()
    assert rule.needs(0.4) == Needs()
    assert Static(0.5, before=1.0).needs(0.6) == Needs(uncond=False)
    assert Static(0.5, before=-2.0).needs(0.6) == Needs()


def test_times_for_another_batch_are_refused():
    with pytest.raises(ValueError, match="time holds 2 times for a batch of 3"):
        Static((0.5, 0.6)).init(3)
    with pytest.raises(ValueError, match="time holds no times"):
        Static(())


def test_a_state_of_another_batch_is_refused():
    zero = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="state is for 1 samples and the prediction has 2"):
        Static().step(Prediction(zero, zero + 1, 0.5), Static().init(1))
