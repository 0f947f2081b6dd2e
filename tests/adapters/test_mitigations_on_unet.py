"""Mitigations on first noise, guidance and steps, on a UNet and a VAE with random weights."""

import pytest
import torch
from adapters.tiny_sd import build

from sidestep.adapters.conditioned import ConditionedUNet
from sidestep.guidance import Constant
from sidestep.mitigations import Start, Text
from sidestep.mitigations.antimemorization import AntiMemorization, References
from sidestep.mitigations.initial_noise import BatchwiseNoise, PerSampleNoise
from sidestep.mitigations.sharpness import SharpnessAware
from sidestep.mitigations.update_norm import Calibration, UpdateNorm
from sidestep.rng import noise
from sidestep.sampling import DDIM, NoiseSchedule
from sidestep.sampling.mitigated import sample_mitigated

SCHEDULE = NoiseSchedule.scaled_linear()
STEPS, SCALE, BATCH = 4, 5.0, 3
SEEDS = tuple(range(BATCH))


class Around:
    """The decoder of a pipeline, and embeddings that depend on the prompt."""

    vocabulary = ("a", "b")

    def __init__(self, pipe):
        self.pipe = pipe

    def embed(self, prompts, pad=None):
        cond = torch.stack(
            [torch.randn(3, 8, generator=torch.Generator().manual_seed(len(p))) for p in prompts]
        )
        return Text(cond, -cond, torch.full((len(prompts),), 3))

    def pictures(self, latents):
        return self.pipe.vae.decode(latents / self.pipe.vae.config.scaling_factor).sample


@pytest.fixture(scope="module")
def pipe():
    return build()


def run(pipe, mitigations, seeds=SEEDS):
    model, prompts = Around(pipe), tuple("p" * (1 + s) for s in seeds)
    start = Start(
        denoiser=ConditionedUNet(pipe.unet, pipe.unet.forward, "epsilon", model.embed(prompts)),
        x=noise(list(seeds), (4, 8, 8)),
        levels=tuple(SCHEDULE.grid(STEPS)),
        seeds=seeds,
        prompts=prompts,
        model=model,
        scale=SCALE,
    )
    return sample_mitigated(mitigations, start, Constant(SCALE), SCHEDULE, solver=DDIM())


def region(pipe):
    calibration = Calibration()
    run(pipe, [calibration], seeds=(7, 8, 9))
    return calibration.region()


METHODS = {
    "batchwise": lambda pipe: BatchwiseNoise(0.7, 5.0),
    "per sample": lambda pipe: PerSampleNoise(0.0, 3),
    "sharpness": lambda pipe: SharpnessAware(0.0, limit=2, candidates=2),
    "own pictures": lambda pipe: AntiMemorization(
        References(torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)), ("x", "yy")),
        threshold=-2.0,
    ),
    "update norm": lambda pipe: UpdateNorm(region(pipe), mild=0.5),
}


@pytest.mark.parametrize("name", METHODS)
def test_it_changes_the_run_and_a_batch_equals_its_singles(pipe, name):
    how = METHODS[name](pipe)
    plain, made = run(pipe, []), run(pipe, [how])
    assert made.latents.isfinite().all() and not made.latents.requires_grad
    assert (made.latents - plain.latents).abs().max() > 1e-3
    assert all(p.grad is None for p in [*pipe.unet.parameters(), *pipe.vae.parameters()])
    for i in range(BATCH):
        alone = run(pipe, [how], seeds=(i,))
        # Float32, latents reach 60: 8e-5 was measured.
        torch.testing.assert_close(made.latents[i], alone.latents[0], atol=5e-4, rtol=0)
        assert made.trace.nfe[i] == alone.trace.nfe[0]
    assert torch.equal(run(pipe, []).latents, plain.latents)


def test_an_objective_that_is_descended_falls_on_a_network(pipe):
    made, plain = run(pipe, [PerSampleNoise(0.0, 10, rate=0.05)]), run(pipe, [])
    assert (made.trace.gap[0] < plain.trace.gap[0]).all()


def test_several_work_together(pipe):
    chain = [BatchwiseNoise(0.7, 5.0), PerSampleNoise(0.0, 1), METHODS["own pictures"](pipe)]
    made = run(pipe, chain)
    assert [o.name for o in made.outcomes] == [
        "batchwise-noise", "per-sample-noise", "anti-memorization",
    ]  # fmt: skip
    assert made.trace.nfe.tolist() == [8 + 4 + 3 * STEPS] * BATCH
    assert made.reached.tolist() == [False] * BATCH and made.backward.tolist() == [2] * BATCH
