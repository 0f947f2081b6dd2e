import math

import numpy as np
import pytest
import torch
from reference import first_noise_loops
from reference.curved import SHAPE, Curved

from sidestep.guidance import Static
from sidestep.mitigations import Start
from sidestep.mitigations.initial_noise import BatchwiseNoise, PerSampleNoise
from sidestep.rng import noise
from sidestep.sampling import NoiseSchedule

BATCH = 4
LEVELS = tuple(NoiseSchedule.scaled_linear().grid(5))


def started(denoiser=None, x=None):
    x = noise(range(BATCH), SHAPE).double() if x is None else x
    return Start(denoiser or Curved.make(BATCH), x, LEVELS, tuple(range(len(x))))


def flat(x):
    return x.flatten(1).numpy()


def test_batchwise_is_the_literal_loop():
    start = started()
    made = BatchwiseNoise(0.7, 1.3, 3).begin(start)
    for b in range(BATCH):
        push, _ = start.denoiser.in_numbers(b)
        expected = first_noise_loops.batchwise(flat(start.x)[b], push, 0.7, 1.3, 3)
        # float64, some tens of operations.
        np.testing.assert_allclose(flat(made.x)[b], expected, rtol=1e-10, atol=1e-10)
    assert made.outcomes[0].nfe.tolist() == start.denoiser.count.tolist() == [12] * BATCH
    assert made.outcomes[0].reached.all() and made.outcomes[0].backward.tolist() == [0] * BATCH


def test_batchwise_leaves_a_sample_without_a_pull():
    denoiser = Curved.make(BATCH)
    denoiser.matrix[1] = denoiser.offset[1] = 0
    start = started(denoiser)
    made = BatchwiseNoise().begin(start)
    assert torch.equal(made.x[1], start.x[1]) and made.x.isfinite().all()
    assert not torch.equal(made.x[0], start.x[0])


@pytest.mark.parametrize("penalty", [0.0, 3.0])
def test_per_sample_is_the_literal_loop_and_counts_what_it_made(penalty):
    start = started()
    how = PerSampleNoise(target=1.5, limit=20, rate=0.05, decay=0.1, penalty=penalty)
    made = how.begin(start)
    note, updates = made.outcomes[0], []
    for b in range(BATCH):
        push, slope = start.denoiser.in_numbers(b)
        x, reached, made_here = first_noise_loops.per_sample(
            flat(start.x)[b], push, slope, 1.5, 20, 0.05, 0.1, penalty
        )
        # float64; twenty updates, each a quotient of running means.
        np.testing.assert_allclose(flat(made.x)[b], x, rtol=1e-10, atol=1e-10)
        assert bool(note.reached[b]) == reached
        updates.append(made_here)
    assert len(set(updates)) > 1 and 20 in updates, "samples must end differently to show it"
    assert note.nfe.tolist() == start.denoiser.count.tolist() == [2 * u + 2 for u in updates]
    assert note.backward.tolist() == [2 * u for u in updates]


def test_a_sample_that_is_there_already_stays_to_the_bit():
    start = started()
    made = PerSampleNoise(target=math.inf).begin(start)
    assert torch.equal(made.x, start.x)
    assert made.outcomes[0].nfe.tolist() == [2] * BATCH
    assert made.outcomes[0].reached.all()


def test_a_target_out_of_reach_ends_at_the_limit_and_is_said():
    made = PerSampleNoise(target=0.0, limit=7).begin(started())
    assert not made.outcomes[0].reached.any()
    assert made.outcomes[0].nfe.tolist() == [16] * BATCH
    assert not made.x.requires_grad and made.x.isfinite().all()


def test_a_strong_penalty_keeps_noise_on_the_shell():
    x = 3 * noise(range(BATCH), SHAPE).double()
    made = PerSampleNoise(target=0.0, limit=300, rate=0.05, decay=0.0, penalty=1e3).begin(
        started(x=x)
    )
    away = (made.x.flatten(1).norm(dim=1) / math.sqrt(6) - 1).abs()
    assert away.max() < 0.1 < (x.flatten(1).norm(dim=1) / math.sqrt(6) - 1).abs().min()


def test_it_works_where_gradients_are_off():
    with torch.no_grad():
        made = PerSampleNoise(target=0.0, limit=3, rate=0.05).begin(started())
    assert not torch.equal(made.x, started().x)


def test_batchwise_noise_brings_the_way_out_forward():
    from contract.test_mitigations import copies, run

    # The paper's claim: guidance may come on sooner. Without it 11 of 16 are copies here.
    rule = Static(0.9, before=0.0, after=3.0)
    alone, _ = run(None, range(16), rule=rule)
    helped, _ = run(BatchwiseNoise(0.7, 5.0, 4), range(16), rule=rule)
    assert copies(helped.latents).sum() <= copies(alone.latents).sum() - 4


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: BatchwiseNoise(step=math.nan),
        lambda: BatchwiseNoise(rounds=-1),
        lambda: PerSampleNoise(target=math.nan),
        lambda: PerSampleNoise(limit=-1),
        lambda: PerSampleNoise(rate=math.inf),
    ],
)
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=r"is (nan|inf|-1); "):
        wrong()
