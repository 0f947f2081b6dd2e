"""Prompt-embedding optimization: descend the gap at the first noise until the prompt is quiet.

    minimize over e   || eps(x_T, e) - eps(x_T, empty) ||,   stop at <= target

AdamW over all tokens but the start token, each sample by itself. The target is looked at before
the first update, so a prompt that is quiet already is left alone, and after the last one, so the
outcome tells whether it was met. Per sample: two evaluations for each look, and one pass backward
through the network for each update.

Source: Wen et al., Detecting, Explaining, and Mitigating Memorization in Diffusion Models, ICLR
2024, arXiv:2407.21720. Its script shares one embedding among n images and takes the norm over all
of them: its target t is t / sqrt(n) here.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sidestep.guidance.base import BOTH, Prediction
from sidestep.mitigations.base import Start, check_flow, check_gradients


@dataclass(frozen=True)
class PromptOptimization:
    """Change the embeddings until the gap at the first level is at most `target`.

    `target` is in noise-prediction units and grows with the square root of the latent's size; at
    inf nothing changes. There are at most `steps` updates of AdamW at learning rate `rate`.
    """

    target: float = 3.0
    steps: int = 10
    rate: float = 0.05

    name: ClassVar[str] = "prompt-optimization"

    def __post_init__(self) -> None:
        """Refuse a negative target, a negative number of steps and a rate that is not positive."""
        if not self.target >= 0:
            raise ValueError(f"target is {self.target}; a gap is a norm: give a number from 0 up")
        if self.steps < 0:
            raise ValueError(f"steps is {self.steps}; it is the most updates to make, from 0 up")
        if not 0 < self.rate < torch.inf:
            raise ValueError(f"rate is {self.rate}; a learning rate is a number above 0")

    def begin(self, start: Start) -> Start:
        """The run with quieter embeddings; those that met no target keep their last ones.

        Raises SidestepError under `torch.inference_mode` and Unfit for a network that lets no
        gradients through.
        """
        check_gradients(self.name)
        cond = start.text.cond
        wide = torch.promote_types(cond.dtype, torch.float32)  # AdamW's epsilon is 0 in half
        words = [row.detach().to(wide, copy=True) for row in cond[:, 1:]]
        optimizer = torch.optim.AdamW(words, lr=self.rate)
        reached = torch.zeros(len(words), dtype=torch.bool, device=cond.device)
        nfe, backward = reached.long(), reached.long()
        rows = torch.arange(len(words), device=cond.device)  # the samples that are still too loud
        for updates_left in range(self.steps, -1, -1):
            with torch.set_grad_enabled(updates_left > 0):
                part = torch.stack([words[i] for i in rows.tolist()])
                part.requires_grad_(updates_left > 0)
                prediction = _predict(start, rows, part)
                gap = prediction.gap
            nfe[rows] += 2 + prediction.extra
            reached[rows] = gap.detach() <= self.target
            loud = ~reached[rows]
            if updates_left == 0 or not bool(loud.any()):
                break
            check_flow(gap, start.denoiser, "prompt embeddings")
            (gradient,) = torch.autograd.grad(gap, part, loud.to(gap))
            rows = rows[loud]
            backward[rows] += 1
            for i, row in zip(rows.tolist(), gradient[loud], strict=True):
                words[i].grad = row
            optimizer.step()
            optimizer.zero_grad()  # a sample without gradient is not updated, nor decayed
        quiet = torch.cat([cond[:, :1], torch.stack(words).to(cond)], 1)
        changed = start.with_text(start.text._replace(cond=quiet))
        return changed.done(self.name, reached, nfe, backward)


def _predict(start: Start, rows: Tensor, words: Tensor) -> Prediction:
    """What the network says of some samples at the first level, with those words."""
    denoiser = start.text_denoiser().select(rows)
    text = denoiser.text
    cond = torch.cat([text.cond[:, :1], words.to(text.cond)], 1)
    return denoiser.with_text(text._replace(cond=cond))(start.x[rows], start.levels[0], BOTH)
