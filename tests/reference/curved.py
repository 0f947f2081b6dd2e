"""A denoiser whose difference of predictions has a Jacobian in closed form, sample by sample.

    cond - uncond = M_b tanh(x) + m_b

in torch for the library, and once more in numpy for the loops it is compared with.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sidestep.guidance import Prediction

SHAPE = (2, 3)
SIZE = 6


@dataclass(frozen=True)
class Curved:
    """`matrix` (B, 6, 6), `offset` (B, 6); counts evaluations per sample, whoever is selected."""

    matrix: Tensor
    offset: Tensor
    count: Tensor
    ids: Tensor

    @classmethod
    def make(cls, batch, seed=0):
        generator = torch.Generator().manual_seed(seed)
        matrix = torch.randn(batch, SIZE, SIZE, generator=generator, dtype=torch.float64)
        offset = torch.randn(batch, SIZE, generator=generator, dtype=torch.float64)
        count = torch.zeros(batch, dtype=torch.int64)
        return cls(matrix, offset, count, torch.arange(batch))

    def select(self, rows):
        fields = {n: getattr(self, n)[rows] for n in ("matrix", "offset", "ids")}
        return replace(self, **fields)

    def __call__(self, x, level, needs):
        asked = torch.full((len(x),), needs.uncond + needs.cond, dtype=torch.int64)
        self.count.index_add_(0, self.ids, asked)
        push = torch.einsum("bij,bj->bi", self.matrix, x.flatten(1).tanh()) + self.offset
        uncond = 0.3 * x
        cond = uncond + push.view_as(x)
        if not needs.cond:
            return Prediction(uncond, uncond, level.time)
        return Prediction(uncond if needs.uncond else cond, cond, level.time)

    def in_numbers(self, row):
        """The difference of one sample and its Jacobian, as functions of a flat array."""
        matrix, offset = self.matrix[row].numpy(), self.offset[row].numpy()
        return (
            lambda x: matrix @ np.tanh(x) + offset,
            lambda x: matrix * (1 - np.tanh(x) ** 2)[None, :],
        )
