"""A denoiser small enough to know everything about: counted, with a dip where it is asked for.

Only additions, multiplications and divisions: they round alike wherever a number lies in a
batch, so that a batch can be compared with its singles bit by bit.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sidestep.guidance import Needs, Prediction
from sidestep.sampling import Level


@dataclass(frozen=True)
class Toy:
    """Uncond: the exact denoiser of N(0, variance). Cond: the same, pushed along `push` (B, *S).

    The push is `0.2 + 3 |time - dip_b|` times a mild function of x: its size falls until the dip of
    sample b and rises after it, on any trajectory.
    """

    push: Tensor
    dip: Tensor  # (B,) times
    ids: Tensor  # (B,) which sample each row is
    count: Tensor  # (all samples,) network evaluations made so far, shared by all selections
    variance: float = 0.5

    @classmethod
    def make(cls, dips: list[float], shape=(3, 2)):
        batch = len(dips)
        count = torch.zeros(batch, dtype=torch.int64)
        push = first_noise(batch, shape, seed=1000)
        return cls(push, torch.tensor(dips, dtype=torch.float64), torch.arange(batch), count)

    def select(self, rows):
        return replace(self, push=self.push[rows], dip=self.dip[rows], ids=self.ids[rows])

    def __call__(self, x: Tensor, level: Level, needs: Needs) -> Prediction:
        self.count[self.ids] += needs.uncond + needs.cond
        shrink = level.sigma / (level.alpha**2 * self.variance + level.sigma**2)
        uncond = x * shrink
        size = (0.2 + 3 * (level.time - self.dip).abs()).view(-1, *[1] * (x.ndim - 1))
        cond = uncond + 0.3 * size * self.push * (1 + 0.05 * x / (1 + x * x))
        if not needs.cond:
            return Prediction(uncond, uncond, level.time)
        if not needs.uncond:
            return Prediction(cond, cond, level.time)
        return Prediction(uncond, cond, level.time)


def first_noise(batch, shape=(3, 2), seed=1):
    """First noise (B, *S), float64, each row from its own seed."""
    noise = torch.zeros(batch, *shape, dtype=torch.float64)
    for b in range(batch):
        noise[b].normal_(generator=torch.Generator().manual_seed(seed + b))
    return noise
