from dataclasses import replace

import numpy as np
import pytest
import torch
from reference.toy import Toy, first_noise
from scipy.signal import argrelextrema

from sidestep.guidance import Constant, Static
from sidestep.sampling import NoiseSchedule, frames, probe_and_sample, sample
from sidestep.sampling.probe import transitions

SCHEDULE = NoiseSchedule.scaled_linear()


def released_rule(distances):
    """The transition the released script takes from the cosine distances of one probe."""
    minima = argrelextrema(np.array(distances), np.less)[0].tolist()
    if len(minima) == 0:
        return 5
    if minima[0] == 1 and len(minima) > 1:
        return minima[1]
    return minima[0]


def test_transitions_are_the_released_rule():
    generator = np.random.default_rng(0)
    for length in (1, 2, 3, 4, 6, 10, 50):
        # Whole numbers, so that ties come up too.
        distances = generator.integers(0, 6, size=(length, 200)).astype(np.float64)
        found, missing = transitions(torch.from_numpy(distances))
        assert found.tolist() == [released_rule(distances[:, b]) for b in range(200)]
        for b in range(200):
            assert bool(missing[b]) == (len(argrelextrema(distances[:, b], np.less)[0]) == 0)


@pytest.mark.parametrize(
    "distances, step, none",
    [
        ([5, 4, 6, 7, 3, 8], 4, False),  # a minimum at 1 is passed over for a second
        ([5, 4, 6, 7, 8, 9], 1, False),  # ... but not where it is the only one
        ([9, 8, 7, 6, 5, 4], 5, True),
        ([5, 5, 4, 4, 5, 6], 5, True),  # not strict
    ],
)
def test_the_special_cases(distances, step, none):
    found, missing = transitions(torch.tensor(distances).double()[:, None])
    assert (int(found), bool(missing)) == (step, none)


DIPS = [0.9, 0.8, 0.7, 0.6, 0.4, 0.2, 0.95]


def probed(toy, x, before, steps):
    """The transition of each sample, from a probe run written out."""
    rows = [[] for _ in x]
    for frame in frames(toy, x, Constant(before), SCHEDULE.grid(steps)):
        for b in range(len(x)):
            u, v = frame.x[b].flatten(), frame.latent[b].flatten()
            rows[b].append(1 - float(u @ v) / (float(u @ u) * float(v @ v)) ** 0.5)
    return [released_rule(row) for row in rows]


@pytest.mark.parametrize("steps", [20, 50])
def test_the_second_run_switches_where_the_probe_says_from_the_same_noise(steps):
    x = first_noise(7)
    expected = probed(Toy.make(DIPS), x, -2.0, steps)
    made = probe_and_sample(Toy.make(DIPS), x, SCHEDULE, before=-2.0, steps=steps)
    assert made.trace.transition.tolist() == expected
    for b, step in enumerate(expected):
        assert made.trace.scale[:, b].tolist() == [-2.0] * step + [7.5] * (steps - step)
    assert len(set(expected)) > 4  # the samples differ, or nothing was shown
    second = Static(tuple(SCHEDULE.grid(steps)[k].time for k in expected), before=-2.0)
    again = sample(Toy.make(DIPS), x, second, SCHEDULE, steps=steps)
    assert torch.equal(made.latents, again.latents)


def test_a_probe_without_a_minimum_stands_in_step_5_and_says_so():
    # Latents of one number that keeps its sign never turn: their distances are 0 throughout.
    still = Toy.make([0.5, 0.5], shape=(1,))
    still = replace(still, push=torch.zeros_like(still.push))
    trace = probe_and_sample(still, first_noise(2, (1,)), SCHEDULE, before=-2.0, steps=20).trace
    assert trace.transition.tolist() == [5, 5] and trace.fell_back.all()


def test_a_probe_without_a_minimum_in_fewer_than_5_steps_switches_at_the_last():
    trace = probe_and_sample(Toy.make(DIPS), first_noise(7), SCHEDULE, before=-2.0, steps=4).trace
    assert trace.fell_back.tolist() == [False] * 5 + [True, False]
    assert int(trace.transition[5]) == 3


@pytest.mark.parametrize("before", [-7.5, 0.0, 1.0])
@pytest.mark.parametrize("finer", [None, 80])
def test_nfe_counts_both_runs(before, finer):
    toy = Toy.make([0.9, 0.7, 0.3])
    made = probe_and_sample(toy, first_noise(3), SCHEDULE, before=before, steps=20, finer=finer)
    assert torch.equal(made.trace.nfe, toy.count)
    if before == -7.5 and finer is None:
        assert made.trace.cost == 2.0


def test_a_batch_is_its_singles():
    x = first_noise(7)
    whole = probe_and_sample(Toy.make(DIPS), x, SCHEDULE, before=-2.0, steps=20)
    for b in range(7):
        one = Toy.make(DIPS).select(torch.tensor([b]))
        alone = probe_and_sample(one, x[[b]], SCHEDULE, before=-2.0, steps=20)
        # The latents round alike to the bit; the transitions are whole numbers.
        assert torch.equal(alone.latents[0], whole.latents[b])
        assert alone.trace.transition[0] == whole.trace.transition[b]


def test_a_scale_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="a guidance scale must be a finite number"):
        probe_and_sample(Toy.make([0.5]), first_noise(1), SCHEDULE, before=float("nan"))
    with pytest.raises(ValueError, match="after is nan"):
        probe_and_sample(Toy.make([0.5]), first_noise(1), SCHEDULE, after=float("nan"), steps=6)
