"""Image transformers that are called twice a step: with the prompt, then without."""

from typing import Any

import torch
from adapters.families.base import Family, Rows, randomize
from adapters.families.dit import POOLED, TOKENS, WIDTH, flow, masked_prompts, sd3_prompts
from adapters.families.sd import SIDE, autoencoder

HEADS = {"num_attention_heads": 2, "attention_head_dim": 16}
PIXELS = {"height": SIDE, "width": SIDE}


def flux() -> Any:
    from diffusers import FluxPipeline, FluxTransformer2DModel

    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=POOLED,
        guidance_embeds=True,
        axes_dims_rope=[4, 4, 8],
        **HEADS,
    )
    randomize(transformer, "flux")
    return FluxPipeline(
        scheduler=flow(use_dynamic_shifting=True),
        vae=autoencoder(),
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        transformer=transformer,
    )


def tiny_wan_vae(kind: str, channels: int) -> Any:
    """A video autoencoder in the layout of Wan's; its decoder never runs here."""
    import diffusers

    return getattr(diffusers, kind)(
        base_dim=4,
        z_dim=channels,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * channels,
        latents_std=[1.0] * channels,
    )


def qwen() -> Any:
    from diffusers import QwenImagePipeline, QwenImageTransformer2DModel

    transformer = QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=1,
        joint_attention_dim=WIDTH,
        axes_dims_rope=(4, 6, 6),
        **HEADS,
    )
    randomize(transformer, "qwen")
    return QwenImagePipeline(
        scheduler=flow(use_dynamic_shifting=True),
        vae=tiny_wan_vae("AutoencoderKLQwenImage", 4),
        text_encoder=None,
        tokenizer=None,
        transformer=transformer,
    )


def qwen_prompts(rows: Rows) -> dict[str, Any]:
    return rows.pair("prompt_embeds", TOKENS, WIDTH) | rows.masks("prompt_embeds_mask", TOKENS)


def chroma() -> Any:
    from diffusers import ChromaPipeline, ChromaTransformer2DModel

    transformer = ChromaTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        joint_attention_dim=WIDTH,
        axes_dims_rope=[4, 4, 8],
        approximator_hidden_dim=32,
        approximator_layers=1,
        approximator_num_channels=16,
        **HEADS,
    )
    randomize(transformer, "chroma")
    return ChromaPipeline(
        scheduler=flow(),
        vae=autoencoder(),
        text_encoder=None,
        tokenizer=None,
        transformer=transformer,
    )


def chroma_prompts(rows: Rows) -> dict[str, Any]:
    masks = rows.masks("prompt_attention_mask", TOKENS, torch.bool)
    return rows.pair("prompt_embeds", TOKENS, WIDTH) | masks


def cogview4() -> Any:
    from diffusers import CogView4Pipeline, CogView4Transformer2DModel

    transformer = CogView4Transformer2DModel(
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        text_embed_dim=WIDTH,
        time_embed_dim=8,
        condition_dim=4,
        sample_size=SIDE,
        **HEADS,
    )
    randomize(transformer, "cogview4")
    return CogView4Pipeline(
        tokenizer=None,
        text_encoder=None,
        vae=autoencoder(),
        transformer=transformer,
        scheduler=flow(use_dynamic_shifting=True, time_shift_type="linear"),
    )


def cogview4_prompts(rows: Rows) -> dict[str, Any]:
    return rows.pair("prompt_embeds", TOKENS, WIDTH)


def lumina2() -> Any:
    from diffusers import Lumina2Pipeline, Lumina2Transformer2DModel

    transformer = Lumina2Transformer2DModel(
        sample_size=SIDE,
        patch_size=2,
        in_channels=4,
        hidden_size=32,
        num_layers=1,
        num_refiner_layers=1,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=8,
        axes_dim_rope=(8, 4, 4),
        axes_lens=(64, 32, 32),
        cap_feat_dim=WIDTH,
    )
    randomize(transformer, "lumina2")
    return Lumina2Pipeline(
        transformer=transformer,
        scheduler=flow(),
        vae=autoencoder(),
        text_encoder=None,
        tokenizer=None,
    )


class NothingToCheck(torch.nn.Module):
    """The guard that Cosmos asks for; without prompts and pictures it has nothing to check."""

    device = torch.device("cpu")
    dtype = torch.float32


def cosmos2() -> Any:
    from diffusers import Cosmos2TextToImagePipeline, CosmosTransformer3DModel

    transformer = CosmosTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_layers=1,
        mlp_ratio=2,
        text_embed_dim=WIDTH,
        adaln_lora_dim=4,
        max_size=(4, 16, 16),
        patch_size=(1, 2, 2),
        concat_padding_mask=False,  # True asks for torchvision
        extra_pos_embed_type="learnable",
        **HEADS,
    )
    randomize(transformer, "cosmos2")
    return Cosmos2TextToImagePipeline(
        text_encoder=None,
        tokenizer=None,
        transformer=transformer,
        vae=tiny_wan_vae("AutoencoderKLWan", 4),
        scheduler=flow(use_karras_sigmas=True),
        safety_checker=NothingToCheck(),
    )


def family(name: str, pipeline: str, **fields: Any) -> Family:
    return Family(
        name=name, pipeline=pipeline, denoisers=("transformer",), layout="separate", **fields
    )


MASKED = ("encoder_hidden_states", "encoder_attention_mask")

FAMILIES = (
    family(
        "flux-true-cfg",
        "FluxPipeline",
        make=flux,
        inputs=sd3_prompts,
        conditioning=("encoder_hidden_states", "pooled_projections"),
        settings=PIXELS | {"guidance_scale": 3.5},
        scale="true_cfg_scale",
    ),
    family(
        "qwen-image",
        "QwenImagePipeline",
        make=qwen,
        inputs=qwen_prompts,
        conditioning=("encoder_hidden_states", "encoder_hidden_states_mask"),
        settings={"height": 64, "width": 64},
        scale="true_cfg_scale",
    ),
    family(
        "chroma",
        "ChromaPipeline",
        make=chroma,
        inputs=chroma_prompts,
        conditioning=("encoder_hidden_states", "attention_mask"),
        settings={"height": 16, "width": 16},
    ),
    family(
        "cogview4",
        "CogView4Pipeline",
        make=cogview4,
        inputs=cogview4_prompts,
        conditioning=("encoder_hidden_states",),
        settings={"height": 16, "width": 16},
    ),
    family(
        "lumina2",
        "Lumina2Pipeline",
        make=lumina2,
        inputs=masked_prompts,
        conditioning=MASKED,
        settings={"height": 64, "width": 64},
    ),
    family(
        "cosmos2-text2image",
        "Cosmos2TextToImagePipeline",
        make=cosmos2,
        inputs=cogview4_prompts,
        conditioning=("encoder_hidden_states",),
        settings={"height": 64, "width": 64},
    ),
)
