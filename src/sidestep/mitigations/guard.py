"""Attention-spike attenuation and GUARD: calm the tokens that attention jumps at, flee the prompt.

    M_i = max over queries of the logit of token i, per head and layer
    z_i = (M_i - mean M) / std M,  over all n tokens but the start token (std by n - 1)
    logit_i <- factor * logit_i  where z_i > threshold and logit_i > 0; never the start token

in the down and mid sections of the UNet, on the conditional branch, anew at each step. With eps_+
the prediction under it,

    SpikeAttenuation   eps = eps_u + w (eps_+ - eps_u)
    Guard              eps = eps_u + w (eps_+ - eps_u) - repel (eps_c - eps_u)

Negative logits are left alone: a factor below 1 would raise them. SpikeAttenuation costs no
evaluation, Guard one more at each step.

Source: Zhao, Triantafillou and Triantafillou, You Don't Need All That Attention, ICML 2026,
arXiv:2603.00133.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sidestep.guidance.base import BOTH, Needs, Prediction
from sidestep.guidance.denoiser import Level
from sidestep.mitigations.base import Start, Wrapped, check_finite, scaled
from sidestep.mitigations.text import Place, Text


@dataclass(frozen=True)
class SpikeAttenuation:
    """Multiply the logits of tokens that attention spikes at by `factor` (CA).

    `threshold` is in standard deviations over the tokens. Plain guidance at `factor=1`.
    """

    factor: float = 0.3
    threshold: float = 0.01

    name: ClassVar[str] = "spike-attenuation"

    def __post_init__(self) -> None:
        """Refuse a factor outside [0, 1] and a threshold that is not finite."""
        if not 0 <= self.factor <= 1:
            raise ValueError(f"factor is {self.factor}; it attenuates, so give one in [0, 1]")
        check_finite(threshold=self.threshold)

    def begin(self, start: Start) -> Start:
        """The run with calmer cross-attention."""
        denoiser = start.text_denoiser()
        if self.factor == 1:
            return start.done(self.name)
        return start.with_denoiser(denoiser.with_attention(self.edit)).done(self.name)

    def edit(self, logits: Tensor, text: Text, place: Place) -> Tensor:
        """Logits (B, heads, queries, tokens), attenuated where they spike."""
        if place.branch == "uncond" or place.section == "up":
            return logits
        words = logits[..., 1:]
        highest = words.amax(2, keepdim=True)
        masked = highest == -torch.inf  # by an edit before this one; such a token has no say
        count = (~masked).sum(-1, keepdim=True)
        # Below the highest of all, so that the mean of equal logits is exactly theirs.
        below = (highest - highest.amax(-1, keepdim=True)).masked_fill(masked, 0)
        away = (below - below.sum(-1, keepdim=True) / count).masked_fill(masked, 0)
        deviation = (away.square().sum(-1, keepdim=True) / (count - 1)).sqrt()
        # Where all tokens are alike this is 0 / 0, and nan is above no threshold.
        spikes = away / deviation > self.threshold
        calm = torch.where(spikes & (words > 0), self.factor * words, words)
        return torch.cat([logits[..., :1], calm], -1)


@dataclass(frozen=True)
class Guard:
    """Follow the prediction with attenuated spikes and push away from the one without.

    `repel` is the weight of the push, beside the run's guidance scale. Plain guidance at `factor=1`
    with `repel=0`.
    """

    factor: float = 0.3
    threshold: float = 0.1
    repel: float = 2.0

    name: ClassVar[str] = "guard"

    def __post_init__(self) -> None:
        """Refuse what SpikeAttenuation refuses and a repel that is not finite."""
        SpikeAttenuation(self.factor, self.threshold)
        check_finite(repel=self.repel)

    def begin(self, start: Start) -> Start:
        """The run that is pushed away from what the prompt insists on."""
        denoiser = start.text_denoiser()
        if self.factor == 1 and self.repel == 0:
            return start.done(self.name)
        return start.with_denoiser(_Guarded(denoiser, self, start.scale)).done(self.name)


@dataclass(frozen=True)
class _Guarded(Wrapped):
    guard: Guard
    scale: float

    def __call__(self, x: Tensor, level: Level, needs: Needs) -> Prediction:
        if not needs.cond:
            return self.inner(x, level, needs)
        plain = self.inner(x, level, BOTH)
        edit = SpikeAttenuation(self.guard.factor, self.guard.threshold).edit
        calm = self.inner.with_attention(edit)(x, level, Needs(uncond=False))
        wanted = (
            plain.uncond
            + self.scale * (calm.cond - plain.uncond)
            - self.guard.repel * (plain.cond - plain.uncond)
        )
        # The formula takes the unconditional prediction, also where the rule asks for one branch.
        return scaled(plain, wanted, self.scale, 1 + calm.extra + (not needs.uncond))
