"""A run of the captioned memorizer before its first step, for the tests of single mitigations."""

import torch
from reference.captioned import Captions

from sidestep.mitigations import Start
from sidestep.rng import noise
from sidestep.sampling import NoiseSchedule

SCHEDULE = NoiseSchedule.scaled_linear()
LEVELS = tuple(SCHEDULE.grid(12))
MEMORIZED, ORDINARY = "big red fox", "blue ship lamp tree"
# Sums of a few dozen float64 numbers in another order.
CLOSE = {"atol": 1e-10, "rtol": 1e-10}


def started(prompts=(MEMORIZED, ORDINARY), model=None, scale=3.0, **more):
    """A batch of those prompts in float64, sample b with seed b."""
    model = model or Captions({MEMORIZED: 0})
    seeds = list(range(len(prompts)))
    settings = {
        "denoiser": model.denoiser(prompts),
        "x": noise(seeds, tuple(model.points.shape[1:])).double(),
        "levels": LEVELS,
        "seeds": tuple(seeds),
        "prompts": tuple(prompts),
        "model": model,
        "scale": scale,
    }
    return Start(**settings | more)


def logits(batch=2, heads=3, queries=4, tokens=10, seed=0):
    """Attention logits (B, heads, queries, tokens) of both signs."""
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(batch, heads, queries, tokens, generator=generator, dtype=torch.float64)
