"""Stable Diffusion 1 and 2: one call for both predictions, [uncond, cond]."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from adapters.families.base import Family, Rows, normal, randomize

WIDTH = 16  # of a token
SIDE = 8  # of the latents, and of the pictures: the decoder has no downsampling
CHANNELS = 4
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def prompts(rows: Rows) -> dict[str, Any]:
    return rows.pair("prompt_embeds", 7, WIDTH)


def autoencoder(channels: int = CHANNELS, pixels: int = 3) -> Any:
    """The smallest decoder; a latent has the size of its picture."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL(
        in_channels=pixels,
        out_channels=pixels,
        block_out_channels=(4,),
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=1,
        sample_size=SIDE,
    )
    randomize(vae, "vae")
    return vae


def quieten(layer: torch.nn.Module, factor: float = 0.1) -> None:
    """Weaken the first layer.

    Random weights do not denoise: latents grow on their way to some fifty, and would drown the
    prompt in the network's residual stream.
    """
    with torch.no_grad():
        layer.weight *= factor


def unet(channels: int = CHANNELS, **options: Any) -> Any:
    from diffusers import UNet2DConditionModel

    settings: dict[str, Any] = {
        "sample_size": SIDE,
        "in_channels": channels,
        "out_channels": CHANNELS,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    }
    network = UNet2DConditionModel(**settings | options)
    randomize(network, "unet", draw="e", clock=2.0)
    quieten(network.conv_in)
    return network


def ddim(**options: Any) -> Any:
    from diffusers import DDIMScheduler

    settings = {**BETAS, "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}
    return DDIMScheduler(**settings | options)


def pipeline(
    name: str,
    scheduler: Callable[[], Any] = ddim,
    network: Callable[[], Any] = unet,
    **components: Any,
) -> Any:
    """A pipeline of the Stable Diffusion family without text encoders."""
    import diffusers

    return getattr(diffusers, name)(
        vae=autoencoder(),
        text_encoder=None,
        tokenizer=None,
        unet=network(),
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **components,
    )


def sd(name: str, pipeline_name: str = "StableDiffusionPipeline", **options: Any) -> Family:
    """A family of this file; `options` are fields of Family or replace these."""
    settings: dict[str, Any] = {
        "denoisers": ("unet",),
        "layout": "batched [u,c]",
        "make": partial(pipeline, pipeline_name),
        "inputs": prompts,
        "conditioning": ("encoder_hidden_states",),
    }
    return Family(name=name, pipeline=pipeline_name, **settings | options)


def with_picture(rows: Rows) -> dict[str, Any]:
    """An image of four channels is taken for latents: no encoder between us and the loop."""
    return prompts(rows) | {"image": rows.own("image", CHANNELS, SIDE, SIDE)}


def with_mask(rows: Rows) -> dict[str, Any]:
    mask = (rows.own("mask", 1, SIDE, SIDE) > 0).to(rows.dtype)
    return with_picture(rows) | {
        "mask_image": mask,
        "masked_image_latents": rows.own("masked image", CHANNELS, SIDE, SIDE),
    }


IP_WIDTH, IP_TOKENS = 6, 4


def ip_adapter_pipeline() -> Any:
    """The text2img pipeline with an IP-Adapter's weights, made here rather than loaded."""
    pipe = pipeline("StableDiffusionPipeline")
    projection = {
        "proj.weight": normal("ip proj", 0, IP_TOKENS * WIDTH, IP_WIDTH),
        "proj.bias": normal("ip proj", 1, IP_TOKENS * WIDTH),
        "norm.weight": torch.ones(WIDTH),
        "norm.bias": torch.zeros(WIDTH),
    }
    attention: dict[str, torch.Tensor] = {}
    for number, name in enumerate(n for n in pipe.unet.attn_processors if ".attn2." in n):
        layer = pipe.unet.get_submodule(name.removesuffix(".processor"))
        for side in ("to_k_ip", "to_v_ip"):
            weight = normal(f"{name}.{side}", 0, layer.to_k.out_features, WIDTH)
            attention[f"{2 * number + 1}.{side}.weight"] = weight / WIDTH**0.5
    pipe.unet._load_ip_adapter_weights([{"image_proj": projection, "ip_adapter": attention}])
    return pipe


def with_image_prompt(rows: Rows) -> dict[str, Any]:
    """One picture for the whole batch, as the pipeline wants it: negative and positive in a pair.

    So a batch is swapped as a whole or not at all.
    """
    positive, negative = (normal(name, 0, 1, IP_WIDTH) for name in ("picture", "not picture"))
    pair = torch.stack([negative, negative if rows.swapped else positive]).to(rows.dtype)
    return prompts(rows) | {"ip_adapter_image_embeds": [pair]}


FAMILIES = (
    sd("sd-text2img"),
    sd(
        "sd-v-prediction",
        make=partial(
            pipeline, "StableDiffusionPipeline", partial(ddim, prediction_type="v_prediction")
        ),
        settings={"guidance_rescale": 0.7},
    ),
    sd(
        "sd-img2img",
        "StableDiffusionImg2ImgPipeline",
        inputs=with_picture,
        settings={"strength": 0.9},
    ),
    sd(
        "sd-inpaint-4ch",
        "StableDiffusionInpaintPipeline",
        inputs=with_mask,
    ),
    sd(
        "sd-inpaint-9ch",
        "StableDiffusionInpaintPipeline",
        make=partial(
            pipeline, "StableDiffusionInpaintPipeline", network=partial(unet, 2 * CHANNELS + 1)
        ),
        inputs=with_mask,
    ),
    sd(
        "sd-ip-adapter",
        make=ip_adapter_pipeline,
        inputs=with_image_prompt,
        conditioning=("encoder_hidden_states", "added_cond_kwargs"),
        neutral={},
    ),
    sd(
        "sd-pag",
        "StableDiffusionPAGPipeline",
        settings={"pag_scale": 1.5},
        # The perturbed prediction stays apart from the other two however the inputs are chosen.
        neutral={"pag_scale": 0.0},
        conditioning=(),
    ),
)
