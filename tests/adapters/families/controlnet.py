"""Stable Diffusion with a ControlNet, which reads the prompt too, before the network does."""

from functools import partial
from typing import Any

import torch
from adapters.families.base import Family, Rows, randomize
from adapters.families.sd import CHANNELS, SIDE, WIDTH, pipeline, prompts, quieten, sd


def controlnet() -> Any:
    from diffusers import ControlNetModel

    network = ControlNetModel(
        in_channels=CHANNELS,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=4,
        # One width: the control image is as small as the latents.
        conditioning_embedding_out_channels=(8,),
    )
    # The convolutions that start at zero, and would control nothing, included.
    randomize(network, "controlnet")
    quieten(network.conv_in)
    return network


def controlled() -> Any:
    return pipeline("StableDiffusionControlNetPipeline", controlnet=controlnet())


def with_control(rows: Rows) -> dict[str, Any]:
    return prompts(rows) | {"image": rows.own("control", 3, SIDE, SIDE).sigmoid()}


family = partial(
    sd,
    pipeline_name="StableDiffusionControlNetPipeline",
    make=controlled,
    inputs=with_control,
    conditioning=(
        "encoder_hidden_states",
        "down_block_additional_residuals",
        "mid_block_additional_residual",
    ),
)

FAMILIES: tuple[Family, ...] = (
    family("sd-controlnet"),
    family(
        "sd-controlnet-guess",
        settings={"guess_mode": True},
        # Only the conditional prediction is controlled here; equal inputs differ by the control.
        neutral={"controlnet_conditioning_scale": 0.0},
        dtype=torch.float64,
    ),
)
