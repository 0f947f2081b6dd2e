"""A UNet with prompts bound to it, as the denoiser that loop and mitigations ask."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sidestep.adapters.attention import Branch, edited
from sidestep.guidance.base import Needs, Prediction
from sidestep.guidance.denoiser import Level
from sidestep.mitigations.text import AttentionEdit, Text


@dataclass(frozen=True)
class ConditionedUNet:
    """The embeddings of B prompts bound to a UNet of epsilon or v_prediction."""

    module: nn.Module  # where cross-attention is changed
    forward: Callable[..., Any]  # what is called: the module, or its forward beneath its hooks
    prediction_type: str
    text: Text
    edits: tuple[AttentionEdit, ...] = ()

    def select(self, rows: Tensor) -> "ConditionedUNet":
        """The denoiser of some samples of the batch."""
        return replace(self, text=self.text.select(rows))

    def with_text(self, text: Text) -> "ConditionedUNet":
        """The same network with other embeddings bound to it."""
        return replace(self, text=text)

    def with_attention(self, edit: AttentionEdit) -> "ConditionedUNet":
        """The same network whose cross-attention is changed by `edit`, after earlier edits."""
        return replace(self, edits=(*self.edits, edit))

    def __call__(self, x: Tensor, level: Level, needs: Needs) -> Prediction:
        """Noise predictions in float32; both branches run as one batch when both are needed."""
        if needs.uncond and needs.cond:
            hidden = torch.cat([self.text.uncond, self.text.cond])
            answer = self._noise(torch.cat([x, x]), level, hidden, ("uncond", "cond"))
            uncond, cond = answer.chunk(2)
            return Prediction(uncond, cond, level.time)
        branch: Branch = "cond" if needs.cond else "uncond"
        one = self._noise(x, level, getattr(self.text, branch), (branch,))
        return Prediction(one, one, level.time)

    def _noise(
        self, x: Tensor, level: Level, hidden: Tensor, branches: tuple[Branch, ...]
    ) -> Tensor:
        dtype = next(self.module.parameters()).dtype
        with edited(self.module, self.edits, self.text, branches):
            (answer,) = self.forward(
                x.to(dtype), level.timestep, hidden.to(dtype), return_dict=False
            )
        output: Tensor = answer.float()
        if self.prediction_type == "v_prediction":
            output = level.alpha * output + level.sigma * x
        return output
