"""Stable Diffusion XL: as before, with a pooled prompt and the picture's size as more input."""

from functools import partial
from typing import Any

from adapters.families.base import Family, Rows
from adapters.families.sd import CHANNELS, SIDE, autoencoder, ddim, prompts, unet

POOLED, SIZE_WIDTH = 8, 4


def pipeline(name: str) -> Any:
    import diffusers

    network = unet(
        addition_embed_type="text_time",
        addition_time_embed_dim=SIZE_WIDTH,
        # Six numbers: original size, crop, target size.
        projection_class_embeddings_input_dim=6 * SIZE_WIDTH + POOLED,
    )
    return getattr(diffusers, name)(
        vae=autoencoder(),
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        unet=network,
        scheduler=ddim(),
        add_watermarker=False,
    )


def pooled_prompts(rows: Rows) -> dict[str, Any]:
    return prompts(rows) | rows.pair("pooled_prompt_embeds", POOLED)


def with_picture(rows: Rows) -> dict[str, Any]:
    return pooled_prompts(rows) | {"image": rows.own("image", CHANNELS, SIDE, SIDE)}


def family(name: str, pipeline_name: str = "StableDiffusionXLPipeline", **options: Any) -> Family:
    settings: dict[str, Any] = {
        "denoisers": ("unet",),
        "layout": "batched [u,c]",
        "make": partial(pipeline, pipeline_name),
        "inputs": pooled_prompts,
        "conditioning": ("encoder_hidden_states", "added_cond_kwargs"),
    }
    return Family(name=name, pipeline=pipeline_name, **settings | options)


FAMILIES = (
    family("sdxl"),
    family("sdxl-rescale", settings={"guidance_rescale": 0.7}),
    family("sdxl-denoising-end", settings={"denoising_end": 0.8}),
    family(
        "sdxl-img2img",
        "StableDiffusionXLImg2ImgPipeline",
        inputs=with_picture,
        settings={"strength": 0.9},
    ),
)
