"""The CLIP padding fix: take the copies of the end token out of the prompt's padding.

Stable Diffusion 1 fills a prompt up with its end token, so that some sixty near-copies of the one
embedding that sums up the prompt outvote its words. What comes after the words changes:

    NeutralPadding(end=0)   padding <- that of the token "!",  end token's embedding <- 0
    NeutralPadding(end=1)   padding <- that of the token "!"
    PaddingZeroed(share)    the share of the padding next to the end token <- 0

CLIP's text encoder is causal, so the words' own embeddings do not depend on the padding. No network
evaluation. Text encoders that pad with another token (Stable Diffusion 2) have nothing to fix.

Source: Kim and No, Memorization in Stable Diffusion Is Unexpectedly Driven by CLIP Embeddings,
CVPR 2026, arXiv:2605.02908.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sidestep.mitigations.base import Start, Unfit
from sidestep.mitigations.text import TextModel


@dataclass(frozen=True)
class NeutralPadding:
    """Pad both branches with "!" and keep the share `end` of the prompt's end embedding.

    `share` is how much of the prompt's padding is exchanged, next to the end token first; 1 is the
    paper's. Plain guidance at `share=0` with `end=1`.
    """

    share: float = 1.0
    end: float = 0.0

    name: ClassVar[str] = "neutral-padding"
    token: ClassVar[str] = "!"

    def __post_init__(self) -> None:
        """Refuse shares outside [0, 1]."""
        _check_share("share", self.share)
        _check_share("end", self.end)

    def begin(self, start: Start) -> Start:
        """The run with the other padding. Raises Unfit where the end token is not the padding."""
        model, text = _fitting(start, self.name), start.text
        padded, places = model.embed(start.prompts, pad=self.token), _places(text.cond)
        end = places == text.length[:, None] - 1
        cond = torch.where(_next(text.cond, text.length, self.share), padded.cond, text.cond)
        cond = torch.where(end[..., None], self.end * cond, cond)
        uncond = padded.uncond if self.share > 0 else text.uncond
        return start.with_text(text._replace(cond=cond, uncond=uncond)).done(self.name)


@dataclass(frozen=True)
class PaddingZeroed:
    """Zero the `share` of the prompt's padding that is next to its end token.

    Plain guidance at 0.
    """

    share: float = 0.7

    name: ClassVar[str] = "padding-zeroed"

    def __post_init__(self) -> None:
        """Refuse a share outside [0, 1]."""
        _check_share("share", self.share)

    def begin(self, start: Start) -> Start:
        """The run with less padding. Raises Unfit where the end token is not the padding."""
        _fitting(start, self.name)
        text = start.text
        cond = text.cond.masked_fill(_next(text.cond, text.length, self.share), 0)
        return start.with_text(text._replace(cond=cond)).done(self.name)


def _fitting(start: Start, name: str) -> TextModel:
    model = start.text_model()
    if not model.pads_with_end:
        raise Unfit(
            f"{type(model).__name__} does not pad prompts with its end token, as Stable Diffusion "
            f"1 does; {name} takes copies of that token out and has nothing to do here"
        )
    return model


def _check_share(name: str, share: float) -> None:
    if not 0 <= share <= 1:
        raise ValueError(f"{name} is {share}; it is a share, in [0, 1]")


def _places(tokens: Tensor) -> Tensor:
    """Positions (tokens,) of embeddings (B, tokens, width)."""
    return torch.arange(tokens.shape[1], device=tokens.device)


def _next(tokens: Tensor, length: Tensor, share: float) -> Tensor:
    """Where the share of the padding next to the end token is, (B, tokens, 1) bool."""
    count = (share * (tokens.shape[1] - length).double()).round()
    places = _places(tokens)
    chosen = (places >= length[:, None]) & (places < (length + count)[:, None])
    return chosen[..., None]
