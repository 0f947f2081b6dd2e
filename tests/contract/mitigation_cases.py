"""One line per mitigation: a neutral strength, a strong one, and what it costs by its formula."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from reference.captioned import Captions

from sidestep.guidance import Constant
from sidestep.mitigations import Start
from sidestep.mitigations.antimemorization import AntiMemorization, References
from sidestep.mitigations.cads import CADS
from sidestep.mitigations.clip_padding import NeutralPadding, PaddingZeroed
from sidestep.mitigations.cross_attention import AttentionMasking
from sidestep.mitigations.guard import Guard, SpikeAttenuation
from sidestep.mitigations.initial_noise import BatchwiseNoise, PerSampleNoise
from sidestep.mitigations.perturbation import (
    EmbeddingNoise,
    RandomNumbers,
    RandomWords,
    WordRepetition,
)
from sidestep.mitigations.prompt_optimization import PromptOptimization
from sidestep.mitigations.reanchoring import PromptReanchoring
from sidestep.mitigations.rewording import Rewording
from sidestep.mitigations.sharpness import SharpnessAware
from sidestep.mitigations.update_norm import Calibration, Region, UpdateNorm
from sidestep.rng import noise
from sidestep.sampling import DDIM, NoiseSchedule
from sidestep.sampling.mitigated import sample_mitigated

STEPS = 12


class Case(NamedTuple):
    """`before` and `during`: evaluations per sample before the first step and in all steps."""

    neutral: Any
    strong: Any
    before: Callable[[Any], int] = lambda strong: 0
    during: Callable[[Any], int] = lambda strong: 2 * STEPS


# Those that differentiate the network.
GRADIENTS = {
    "per-sample-noise",
    "sharpness-aware",
    "prompt-optimization",
}
WORLD = Captions({})
COPIED = References(WORLD.pictures(WORLD.points[:1]), ("big red fox",))


def ordinary_region() -> Region:
    """How the contract's runs look for a caption that is not memorized."""
    schedule, prompts, seeds = (
        NoiseSchedule.scaled_linear(),
        ("big red ship",) * 32,
        range(100, 132),
    )
    calibration = Calibration()
    start = Start(
        denoiser=WORLD.denoiser(prompts),
        x=noise(list(seeds), tuple(WORLD.points.shape[1:])).double(),
        levels=tuple(schedule.grid(STEPS)),
        seeds=tuple(seeds),
        scale=3.0,
    )
    sample_mitigated([calibration], start, Constant(3.0), schedule, solver=DDIM())
    return calibration.region()


CASES = {
    # Words dilute the end token's share of the attention; a repeated one says nothing new.
    "random-words": Case(RandomWords(0), RandomWords(6)),
    "random-numbers": Case(RandomNumbers(0), RandomNumbers(6)),
    "word-repetition": Case(WordRepetition(0), WordRepetition(6)),
    "embedding-noise": Case(EmbeddingNoise(0.0), EmbeddingNoise(4.0)),
    # A target of 0 is never met, so every update is made.
    "batchwise-noise": Case(
        BatchwiseNoise(step=0.0), BatchwiseNoise(0.7, 5.0, 4), before=lambda s: 4 * s.rounds
    ),
    "per-sample-noise": Case(
        PerSampleNoise(math.inf), PerSampleNoise(0.0, 20), before=lambda s: 2 * s.limit + 2
    ),
    "sharpness-aware": Case(
        SharpnessAware(math.inf),
        SharpnessAware(0.0, gaussianity=1e-6, rate=0.1, limit=20),
        before=lambda s: s.rounds * s.candidates * (4 * s.limit + 2),
    ),
    # A threshold of -2 is passed at every step, one of 1 never.
    "anti-memorization": Case(
        AntiMemorization(COPIED, threshold=1.0),
        AntiMemorization(COPIED, threshold=-2.0, dissimilarity=1.0),
        during=lambda strong: 3 * STEPS,
    ),
    "update-norm": Case(
        UpdateNorm(ordinary_region(), None, None), UpdateNorm(ordinary_region(), 2.0)
    ),
    "cads": Case(CADS(low=1.0, high=1.0), CADS(strength=1.0, low=0.3)),
    # A target of 0 is never met, so all looks and updates are made.
    "prompt-optimization": Case(
        PromptOptimization(target=math.inf),
        PromptOptimization(target=0.0, steps=20, rate=0.5),
        before=lambda strong: 2 * (strong.steps + 1),
    ),
    "attention-masking": Case(
        AttentionMasking(boost=1.0, mask="nothing"), AttentionMasking(mask="end")
    ),
    "spike-attenuation": Case(SpikeAttenuation(factor=1.0), SpikeAttenuation(factor=0.0)),
    "guard": Case(Guard(factor=1.0, repel=0.0), Guard(factor=0.0), during=lambda strong: 3 * STEPS),
    "neutral-padding": Case(NeutralPadding(share=0.0, end=1.0), NeutralPadding()),
    "padding-zeroed": Case(PaddingZeroed(0.0), PaddingZeroed(1.0)),
    "rewording": Case(Rewording(), Rewording((("big red fox", "red big fox"),))),
    "prompt-reanchoring": Case(
        PromptReanchoring(trigger=math.inf),
        PromptReanchoring(trigger=0.0),
        before=lambda strong: 2,
        during=lambda strong: 3 * STEPS,
    ),
}
