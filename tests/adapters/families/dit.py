"""Image transformers that make both predictions in one call, [uncond, cond]."""

from typing import Any

from adapters.families.base import Family, Rows, randomize
from adapters.families.sd import SIDE, autoencoder, ddim

TOKENS, WIDTH, POOLED = 7, 16, 8
PIXELS = {"height": SIDE, "width": SIDE}


def flow(**options: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**options)


def masked_prompts(rows: Rows) -> dict[str, Any]:
    return rows.pair("prompt_embeds", TOKENS, WIDTH) | rows.masks("prompt_attention_mask", TOKENS)


def sd3(**shift: Any) -> Any:
    from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline

    transformer = SD3Transformer2DModel(
        sample_size=SIDE,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_projection_dim=16,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=POOLED,
        pos_embed_max_size=SIDE,
    )
    randomize(transformer, "sd3", clock=2.0)
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=flow(**shift),
        vae=autoencoder(),
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        text_encoder_3=None,
        tokenizer_3=None,
    )


def sd3_prompts(rows: Rows) -> dict[str, Any]:
    prompts = rows.pair("prompt_embeds", TOKENS, WIDTH)
    return prompts | rows.pair("pooled_prompt_embeds", POOLED)


def pixart() -> Any:
    from diffusers import PixArtSigmaPipeline, PixArtTransformer2DModel

    transformer = PixArtTransformer2DModel(
        sample_size=SIDE,
        patch_size=2,
        in_channels=4,
        out_channels=8,  # with a learned variance, which the pipeline drops
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_channels=WIDTH,
        cross_attention_dim=16,
    )
    randomize(transformer, "pixart", clock=2.0, attn2=3.0)
    return PixArtSigmaPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=autoencoder(),
        transformer=transformer,
        scheduler=ddim(),
    )


def sana() -> Any:
    from diffusers import AutoencoderDC, SanaPipeline, SanaTransformer2DModel

    transformer = SanaTransformer2DModel(
        sample_size=SIDE,
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        num_attention_heads=2,
        attention_head_dim=8,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=WIDTH,
    )
    randomize(transformer, "sana", clock=1.5)
    blocks = ("ResBlock", "ResBlock")
    vae = AutoencoderDC(
        in_channels=3,
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=blocks,
        decoder_block_types=blocks,
        encoder_block_out_channels=(4, 4),
        decoder_block_out_channels=(4, 4),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        encoder_qkv_multiscales=((), ()),
        decoder_qkv_multiscales=((), ()),
    )
    return SanaPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=vae,
        transformer=transformer,
        scheduler=flow(shift=3.0),
    )


def hunyuan_dit() -> Any:
    from diffusers import HunyuanDiT2DModel, HunyuanDiTPipeline

    transformer = HunyuanDiT2DModel(
        sample_size=SIDE,
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        hidden_size=16,
        cross_attention_dim=WIDTH,
        cross_attention_dim_t5=WIDTH,
        pooled_projection_dim=POOLED,
        text_len=TOKENS,
        text_len_t5=TOKENS,
    )
    randomize(transformer, "hunyuan-dit")
    return HunyuanDiTPipeline(
        vae=autoencoder(),
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        transformer=transformer,
        scheduler=ddim(prediction_type="v_prediction"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def two_prompts(rows: Rows) -> dict[str, Any]:
    second = rows.pair("prompt_embeds_2", TOKENS, WIDTH)
    return masked_prompts(rows) | second | rows.masks("prompt_attention_mask_2", TOKENS)


def family(name: str, pipeline: str, **fields: Any) -> Family:
    return Family(
        name=name, pipeline=pipeline, denoisers=("transformer",), layout="batched [u,c]", **fields
    )


SD3 = ("encoder_hidden_states", "pooled_projections")
MASKED = ("encoder_hidden_states", "encoder_attention_mask")
# The negative prompt of these two is "" unless it is taken away.
UNBINNED: dict[str, Any] = {"use_resolution_binning": False, "negative_prompt": None}

FAMILIES = (
    family(
        "sd3",
        "StableDiffusion3Pipeline",
        make=sd3,
        inputs=sd3_prompts,
        conditioning=SD3,
        settings=PIXELS,
    ),
    family(
        "sd3-dynamic-shift",
        "StableDiffusion3Pipeline",
        make=lambda: sd3(use_dynamic_shifting=True),
        inputs=sd3_prompts,
        conditioning=SD3,
        settings=PIXELS,
    ),
    family(
        "pixart-sigma",
        "PixArtSigmaPipeline",
        make=pixart,
        inputs=masked_prompts,
        conditioning=MASKED,
        settings=UNBINNED | PIXELS,
    ),
    family(
        "sana",
        "SanaPipeline",
        make=sana,
        inputs=masked_prompts,
        conditioning=MASKED,
        settings=UNBINNED | {"height": 32, "width": 32},
    ),
    family(
        "hunyuan-dit",
        "HunyuanDiTPipeline",
        make=hunyuan_dit,
        inputs=two_prompts,
        conditioning=(
            "encoder_hidden_states",
            "text_embedding_mask",
            "encoder_hidden_states_t5",
            "text_embedding_mask_t5",
        ),
        settings={
            "height": 16,
            "width": 16,
            "guidance_rescale": 0.5,
            "use_resolution_binning": False,
        },
    ),
)
