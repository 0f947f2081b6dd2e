"""Prompt re-anchoring: follow a modified prompt, push away from the original one.

With eps_o, eps_m and eps_u the predictions for the original, the modified and no prompt, w the
guidance scale and m = ||eps_m - eps_u||,

    a = (w low - high) / (w - 1)
    s = min(w (m - a) / (high - a), w)  where m > low,  else 1
    eps = eps_o + s (eps_m - eps_o) + (w - s) (eps_m - eps_u)

At s = 1 this is plain guidance by the modified prompt, and s is 1 at m = low: nothing jumps. From
m = high on s is w, and the original prompt is a negative one of full weight. Samples whose own gap
at the first level is at most `trigger` are left alone.

Two evaluations to find the samples, then one more at each of their steps.

Source: Chen et al., CVPR 2025, arXiv:2504.18032 (PRSS, the part PR). Its defaults are for Stable
Diffusion 1.4 at 512 pixels and w = 7.5.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from sidestep.guidance.base import BOTH, Needs, Prediction, distance
from sidestep.guidance.denoiser import Level
from sidestep.mitigations.base import Mitigation, Start, Wrapped, scaled
from sidestep.mitigations.perturbation import RandomWords
from sidestep.mitigations.text import Text


@dataclass(frozen=True)
class PromptReanchoring:
    """Re-anchor samples louder than `trigger` on the prompt that the mitigation `other` makes.

    `low`, `high` and `trigger` are gaps, in noise-prediction units, and grow with the square root
    of the latent's size. Of `other` only the embeddings are taken; `Rewording` gives prompts of
    one's own. Plain guidance at `trigger=inf`.
    """

    low: float = 3.0
    high: float = 5.0
    trigger: float = 1.0
    other: Mitigation = field(default_factory=RandomWords)

    name: ClassVar[str] = "prompt-reanchoring"

    def __post_init__(self) -> None:
        """Refuse gaps below zero and a `high` that is not above `low`."""
        for name, gap in [("low", self.low), ("trigger", self.trigger)]:
            if not gap >= 0:
                raise ValueError(f"{name} is {gap}; a gap is a norm: give a number from 0 up")
        if not self.low < self.high < torch.inf:
            raise ValueError(
                f"low is {self.low} and high {self.high}; the push grows from low to high, "
                "so high must be above low and finite"
            )

    def begin(self, start: Start) -> Start:
        """The run that is re-anchored.

        A loud sample has reached its target if `other` says so and has changed its embeddings; one
        that did not change is left alone. Raises ValueError at a guidance scale not above 1, for
        which the formula has no solution.
        """
        if not start.scale > 1:
            raise ValueError(
                f"the guidance scale of the run is {start.scale}; {self.name} divides by it "
                "less 1: give Start a scale above 1"
            )
        denoiser = start.text_denoiser()
        with torch.no_grad():
            first = denoiser(start.x, start.levels[0], BOTH)
        loud = first.gap > self.trigger
        reached, backward = torch.ones_like(loud), torch.zeros_like(loud, dtype=torch.int64)
        nfe = backward + 2 + first.extra
        rows = loud.nonzero()[:, 0]
        if len(rows) == 0:
            return start.done(self.name, nfe=nfe)
        part = start.select(rows)
        changed = self.other.begin(part)
        new, old = changed.text.cond, part.text.cond
        differs = (new != old).flatten(1).any(1)
        reached[rows] = differs
        for note in changed.outcomes:
            reached[rows] &= note.reached
            nfe[rows] += note.nfe
            backward[rows] += note.backward
        loud[rows] = differs
        modified = start.text._replace(
            cond=start.text.cond.index_copy(0, rows, new),
            length=start.text.length.index_copy(0, rows, changed.text.length),
        )
        anchored = _Reanchored(denoiser, self, start.scale, modified, loud)
        return start.with_denoiser(anchored).done(self.name, reached, nfe, backward)

    def guided(self, uncond: Tensor, original: Tensor, modified: Tensor, scale: float) -> Tensor:
        """The noise to follow, (B, *S)."""
        level = (scale * self.low - self.high) / (scale - 1)
        push = scale * (distance(modified, uncond) - level) / (self.high - level)
        # Up to m = low this is at most 1, which is plain guidance by the modified prompt.
        s = push.clamp(1, scale).to(uncond.dtype).view(-1, *[1] * (uncond.ndim - 1))
        return original + s * (modified - original) + (scale - s) * (modified - uncond)


@dataclass(frozen=True)
class _Reanchored(Wrapped):
    settings: PromptReanchoring
    scale: float
    modified: Text
    loud: Tensor  # (B,) bool
    per_sample: ClassVar[tuple[str, ...]] = ("modified", "loud")

    def __call__(self, x: Tensor, level: Level, needs: Needs) -> Prediction:
        answer = self.inner(x, level, needs)
        rows = self.loud.nonzero()[:, 0]
        if not needs.cond or len(rows) == 0:
            return answer
        inner, x = self.inner.select(rows), x[rows]
        # Where the rule asks for one branch, only the loud samples pay for the other.
        empty = None if needs.uncond else inner(x, level, Needs(cond=False))
        uncond = answer.uncond[rows] if empty is None else empty.uncond
        modified = inner.with_text(self.modified.select(rows))(x, level, Needs(uncond=False))
        original = Prediction(uncond, answer.cond[rows], level.time)
        wanted = self.settings.guided(uncond, original.cond, modified.cond, self.scale)
        more = 1 + modified.extra + (0 if empty is None else 1 + empty.extra)
        extra = torch.zeros_like(self.loud, dtype=torch.int64) + answer.extra
        extra[rows] += more
        cond = answer.cond.index_copy(0, rows, scaled(original, wanted, self.scale, 0).cond)
        return Prediction(answer.uncond if needs.uncond else cond, cond, level.time, extra)
