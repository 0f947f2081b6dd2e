"""Cross-attention masking: no attention to what summarizes the prompt, more to the start token.

    logit(token) <- -inf      for every token after the prompt's end, in all layers, at all steps
    logit(start) <- boost * logit(start)      on the conditional branch

Both branches are masked alike, by the length of the prompt: that is what the authors' code does,
and it takes from the empty prompt all but its start and as many tokens as the prompt has. No
network evaluation. Defined for CLIP's start and end tokens in a UNet's cross-attention.

Source: Ren et al., Unveiling and Mitigating Memorization in Text-to-Image Diffusion Models through
Cross Attention, ECCV 2024, arXiv:2403.11052.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from sidestep.mitigations.base import Start, check_finite
from sidestep.mitigations.text import Place, Text

Mask = Literal["nothing", "padding", "end"]


@dataclass(frozen=True)
class AttentionMasking:
    """Multiply the start token's logit by `boost` and mask the tokens after the prompt.

    `mask` is "padding", all after the end token; "end", that token too; or "nothing". Plain
    guidance at `boost=1` with `mask="nothing"`. A boost lowers a logit that is negative.
    """

    boost: float = 1.25
    mask: Mask = "padding"

    name: ClassVar[str] = "attention-masking"

    def __post_init__(self) -> None:
        """Refuse a boost that is not finite and an unknown mask."""
        check_finite(boost=self.boost)
        if self.mask not in get_args(Mask):
            known = ", ".join(get_args(Mask))
            raise ValueError(f"mask is {self.mask!r}; known are {known}")

    def begin(self, start: Start) -> Start:
        """The run with changed cross-attention."""
        denoiser = start.text_denoiser()
        if self.boost == 1 and self.mask == "nothing":
            return start.done(self.name)
        return start.with_denoiser(denoiser.with_attention(self.edit)).done(self.name)

    def edit(self, logits: Tensor, text: Text, place: Place) -> Tensor:
        """Logits (B, heads, queries, tokens), masked and boosted."""
        tokens = logits.shape[-1]
        if place.branch == "cond":
            logits = torch.cat([self.boost * logits[..., :1], logits[..., 1:]], -1)
        shift = {"nothing": tokens, "padding": 0, "end": -1}[self.mask]
        late = torch.arange(tokens, device=logits.device) >= text.length[:, None] + shift
        return logits.masked_fill(late[:, None, None], -torch.inf)
