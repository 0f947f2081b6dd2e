"""Changes to the cross-attention of a diffusers UNet, in force for one call of the network."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sidestep.mitigations.base import Unfit
from sidestep.mitigations.text import AttentionEdit, Place, Text

Branch = Literal["uncond", "cond"]


@contextmanager
def edited(
    network: nn.Module, edits: Sequence[AttentionEdit], text: Text, branches: Sequence[Branch]
) -> Iterator[None]:
    """Let `edits` change every cross-attention of the network inside the block.

    `branches` says what the rows of the call are, one part of equal size after the other. Without
    edits nothing is touched. Raises Unfit for a network without cross-attention layers as
    diffusers' UNets have them.
    """
    if not edits:
        yield
        return
    layers = {n: m for n, m in network.named_modules() if n.endswith(".attn2") and _cross(m)}
    if not layers:
        raise Unfit(
            f"{type(network).__name__} has no cross-attention from pictures to text (layers named "
            "attn2); mitigations of attention are defined for UNets such as Stable Diffusion's"
        )
    before = {name: layer.processor for name, layer in layers.items()}
    try:
        for name, layer in layers.items():
            layer.processor = EditedAttention(edits, text, branches, name)
        yield
    finally:
        for name, layer in layers.items():
            layer.processor = before[name]


def _cross(layer: Any) -> bool:
    return getattr(layer, "cross_attention_dim", None) is not None and hasattr(layer, "to_k")


class EditedAttention:
    """An attention processor that shows its logits to the edits before the softmax."""

    def __init__(
        self,
        edits: Sequence[AttentionEdit],
        text: Text,
        branches: Sequence[Branch],
        layer: str,
    ) -> None:
        self.edits, self.text, self.branches = edits, text, branches
        section: dict[str, Literal["down", "mid", "up"]] = {
            "down_blocks": "down",
            "mid_block": "mid",
            "up_blocks": "up",
        }
        self.layer, self.section = layer, section[layer.partition(".")[0]]

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Cross-attention of pictures (B, queries, width) or (B, width, H, W) to text."""
        heads, scale, residual = attn.heads, attn.scale, hidden_states
        image = hidden_states.ndim == 4
        if image:
            hidden_states = hidden_states.flatten(2).transpose(1, 2)
        if attn.group_norm is not None:
            hidden_states = attn.group_norm(hidden_states.transpose(1, 2)).transpose(1, 2)
        if attn.norm_cross:
            encoder_hidden_states = attn.norm_encoder_hidden_states(encoder_hidden_states)
        query, key, value = (
            part.view(*part.shape[:2], heads, -1).transpose(1, 2)
            for part in (
                attn.to_q(hidden_states),
                attn.to_k(encoder_hidden_states),
                attn.to_v(encoder_hidden_states),
            )
        )
        logits = query @ key.transpose(-1, -2) * scale
        if attention_mask is not None:
            mask = attn.prepare_attention_mask(attention_mask, key.shape[2], len(query))
            logits = logits + mask.view(len(query), heads, -1, key.shape[2])
        weights = self._edit(logits).softmax(-1).to(value.dtype)
        output = (weights @ value).transpose(1, 2).flatten(2)
        output = attn.to_out[1](attn.to_out[0](output))
        if image:
            output = output.transpose(1, 2).reshape(residual.shape)
        if attn.residual_connection:
            output = output + residual
        result: Tensor = output / attn.rescale_output_factor
        return result

    def _edit(self, logits: Tensor) -> Tensor:
        # In float32: an edit may multiply logits, and half precision ends at 65504.
        parts = list(logits.float().chunk(len(self.branches)))
        for i, branch in enumerate(self.branches):
            for edit in self.edits:
                parts[i] = edit(parts[i], self.text, Place(self.layer, self.section, branch))
        return torch.cat(parts)
