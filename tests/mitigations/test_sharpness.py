import math

import numpy as np
import pytest
import torch
from reference import first_noise_loops
from reference.curved import SHAPE, Curved

from sidestep.guidance import Needs
from sidestep.mitigations import Start
from sidestep.mitigations.sharpness import SharpnessAware
from sidestep.rng import noise
from sidestep.sampling import NoiseSchedule

BATCH = 4
LEVELS = tuple(NoiseSchedule.scaled_linear().grid(5))
SIGMA = LEVELS[0].sigma


def started():
    x = noise(range(BATCH), SHAPE).double()
    return Start(Curved.make(BATCH), x, LEVELS, tuple(range(BATCH)))


def flat(x):
    return x.flatten(1).numpy()


def test_it_is_the_literal_loop_and_counts_what_it_made():
    start = started()
    target = 2.4
    made = SharpnessAware(target, delta=0.2, gaussianity=0.05, rate=0.05, limit=15).begin(start)
    note, updates = made.outcomes[0], []
    for b in range(BATCH):
        push, slope = start.denoiser.in_numbers(b)
        x, _, reached, made_here = first_noise_loops.sharpness(
            flat(start.x)[b], push, slope, SIGMA, target, 0.2, 0.05, 15, 0.05
        )
        # float64; fifteen updates, each a quotient of running means.
        np.testing.assert_allclose(flat(made.x)[b], x, rtol=1e-10, atol=1e-10)
        assert bool(note.reached[b]) == reached
        updates.append(made_here)
    assert len(set(updates)) > 1 and 15 in updates, "samples must end differently to show it"
    assert note.nfe.tolist() == start.denoiser.count.tolist() == [4 * u + 2 for u in updates]
    assert note.backward.tolist() == [4 * u for u in updates]


def test_of_several_candidates_the_one_that_met_the_target_is_taken():
    start = started()
    how = SharpnessAware(1.5, delta=0.2, limit=10, candidates=5, rounds=2)
    made = how.begin(start)
    note = made.outcomes[0]
    gap = start.denoiser(made.x, LEVELS[0], Needs()).gap.double()
    assert note.reached.any()
    # The gap is in float32.
    assert (gap[note.reached] <= 1.5 + 1e-6).all() and (gap[~note.reached] > 1.5).all()


def test_candidates_are_their_own_and_rounds_bring_fresh_ones():
    how = SharpnessAware(0.0, candidates=2, rounds=2)
    start = started()
    first, second = how._drawn(start, 1, 0), how._drawn(start, 1, 1)
    assert torch.equal(first[0], start.x[1])
    drawn = torch.stack([*first, *second, *how._drawn(start, 2, 1)])
    assert len({tuple(row.flatten().tolist()) for row in drawn}) == 6


def test_rounds_are_bounded_and_failure_is_said():
    start = started()
    made = SharpnessAware(0.0, limit=3, candidates=2, rounds=4).begin(start)
    note = made.outcomes[0]
    assert not note.reached.any() and made.x.isfinite().all() and not made.x.requires_grad
    assert note.nfe.tolist() == start.denoiser.count.tolist() == [4 * 2 * (4 * 3 + 2)] * BATCH
    assert note.backward.tolist() == [4 * 2 * 4 * 3] * BATCH


def test_the_target_does_not_depend_on_the_size_of_the_latents():
    # The released threshold holds alpha ||x||, so that larger latents fail it with no pull at all.
    start = started()
    start.denoiser.matrix.zero_()
    start.denoiser.offset.zero_()
    made = SharpnessAware(0.1, gaussianity=100.0).begin(start)
    assert made.outcomes[0].reached.all() and torch.equal(made.x, start.x)
    assert made.outcomes[0].nfe.tolist() == [2] * BATCH


def test_it_lowers_the_curvature_that_it_descends():
    start = started()
    made = SharpnessAware(0.0, delta=0.2, gaussianity=0.0, rate=0.02, limit=30).begin(start)

    def bend(x):
        push = _push(start.denoiser, x)
        return (_push(start.denoiser, x - 0.2 * push / SIGMA) - push).flatten(1).norm(dim=1)

    assert (bend(made.x) < bend(start.x)).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"target": math.nan},
        {"delta": math.inf},
        {"gaussianity": math.nan},
        {"limit": -1},
        {"candidates": 0},
        {"rounds": 0},
    ],
)
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=rf"{next(iter(wrong))} is "):
        SharpnessAware(**wrong)


def _push(denoiser, x):
    prediction = denoiser(x, LEVELS[0], Needs())
    return prediction.cond - prediction.uncond
