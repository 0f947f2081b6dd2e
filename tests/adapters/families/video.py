"""Video: a UNet with motion layers, and transformers over frames."""

from functools import partial
from typing import Any

from adapters.families.base import Family, Rows, randomize
from adapters.families.dit import POOLED, TOKENS, WIDTH, flow, masked_prompts
from adapters.families.sd import autoencoder, ddim, quieten, unet
from adapters.families.separate import HEADS, tiny_wan_vae

FRAMES = 2


def prompts(rows: Rows) -> dict[str, Any]:
    return rows.pair("prompt_embeds", TOKENS, WIDTH)


def animatediff() -> Any:
    from diffusers import AnimateDiffPipeline, MotionAdapter

    motion = MotionAdapter(
        block_out_channels=(8, 16),
        motion_layers_per_block=1,
        motion_norm_num_groups=4,
        motion_num_attention_heads=2,
        motion_max_seq_length=4,
    )
    pipe = AnimateDiffPipeline(
        vae=autoencoder(),
        text_encoder=None,
        tokenizer=None,
        unet=unet(),
        motion_adapter=motion,
        scheduler=ddim(),
    )
    randomize(pipe.unet, "animatediff", draw="b")
    quieten(pipe.unet.conv_in)
    return pipe


def ltx() -> Any:
    from diffusers import AutoencoderKLLTXVideo, LTXPipeline, LTXVideoTransformer3DModel

    transformer = LTXVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_layers=1,
        cross_attention_dim=32,
        caption_channels=WIDTH,
        **HEADS,
    )
    randomize(transformer, "ltx", attn2=6.0)
    flags = (False, False, False, False)
    vae = AutoencoderKLLTXVideo(
        latent_channels=4,
        block_out_channels=(4,) * 4,
        decoder_block_out_channels=(4,) * 4,
        layers_per_block=(1,) * 5,
        decoder_layers_per_block=(1,) * 5,
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(False,) * 5,
        upsample_residual=flags,
        upsample_factor=(1,) * 4,
        patch_size=1,
        patch_size_t=1,
    )
    return LTXPipeline(
        scheduler=flow(use_dynamic_shifting=True),
        vae=vae,
        text_encoder=None,
        tokenizer=None,
        transformer=transformer,
    )


def cogvideox() -> Any:
    from diffusers import (
        AutoencoderKLCogVideoX,
        CogVideoXDDIMScheduler,
        CogVideoXPipeline,
        CogVideoXTransformer3DModel,
    )

    transformer = CogVideoXTransformer3DModel(
        in_channels=4,
        out_channels=4,
        time_embed_dim=8,
        text_embed_dim=WIDTH,
        num_layers=1,
        sample_width=4,
        sample_height=4,
        sample_frames=5,
        patch_size=2,
        temporal_compression_ratio=4,
        max_text_seq_length=TOKENS,
        **HEADS,
    )
    randomize(transformer, "cogvideox", draw="b", clock=1.5)
    vae = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(4,) * 4,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
    )
    return CogVideoXPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=vae,
        transformer=transformer,
        scheduler=CogVideoXDDIMScheduler(
            prediction_type="v_prediction", timestep_spacing="trailing"
        ),
    )


def wan_transformer(label: str) -> Any:
    from diffusers import WanTransformer3DModel

    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        in_channels=4,
        out_channels=4,
        text_dim=WIDTH,
        freq_dim=32,
        ffn_dim=32,
        num_layers=1,
        cross_attn_norm=True,
        rope_max_seq_len=16,
        **HEADS,
    )
    randomize(transformer, label, attn2=6.0)
    return transformer


def wan(boundary: float | None = None) -> Any:
    """Wan 2.1, or 2.2 where `boundary` is the flow time at which the second network takes over."""
    from diffusers import UniPCMultistepScheduler, WanPipeline

    return WanPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=tiny_wan_vae("AutoencoderKLWan", 4),
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
        transformer=wan_transformer("wan"),
        transformer_2=wan_transformer("wan-2") if boundary else None,
        boundary_ratio=boundary,
    )


def hunyuan_video() -> Any:
    from diffusers import (
        AutoencoderKLHunyuanVideo,
        HunyuanVideoPipeline,
        HunyuanVideoTransformer3DModel,
    )

    transformer = HunyuanVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        patch_size=1,
        patch_size_t=1,
        guidance_embeds=True,
        text_embed_dim=WIDTH,
        pooled_projection_dim=POOLED,
        rope_axes_dim=(4, 6, 6),
        **HEADS,
    )
    randomize(transformer, "hunyuan-video")
    vae = AutoencoderKLHunyuanVideo(
        latent_channels=4,
        down_block_types=("HunyuanVideoDownBlock3D",) * 4,
        up_block_types=("HunyuanVideoUpBlock3D",) * 4,
        block_out_channels=(4,) * 4,
        layers_per_block=1,
        norm_num_groups=2,
    )
    return HunyuanVideoPipeline(
        text_encoder=None,
        tokenizer=None,
        transformer=transformer,
        vae=vae,
        scheduler=flow(shift=7.0),
        text_encoder_2=None,
        tokenizer_2=None,
    )


def hunyuan_prompts(rows: Rows) -> dict[str, Any]:
    return masked_prompts(rows) | rows.pair("pooled_prompt_embeds", POOLED)


def family(name: str, pipeline: str, layout: str, **fields: Any) -> Family:
    settings: dict[str, Any] = {
        "denoisers": ("transformer",),
        "inputs": prompts,
        "conditioning": ("encoder_hidden_states",),
    }
    return Family(name=name, pipeline=pipeline, layout=layout, **settings | fields)


cogvideo = partial(family, pipeline="CogVideoXPipeline", layout="batched [u,c]", make=cogvideox)
wan_family = partial(family, pipeline="WanPipeline", layout="separate")
MASKED = ("encoder_hidden_states", "encoder_attention_mask")
CLIP = {"height": 32, "width": 32, "num_frames": 5}

FAMILIES = (
    family(
        "animatediff",
        "AnimateDiffPipeline",
        "batched [u,c]",
        denoisers=("unet",),
        make=animatediff,
        settings={"height": 8, "width": 8, "num_frames": FRAMES},
    ),
    family(
        "ltx",
        "LTXPipeline",
        "batched [u,c]",
        make=ltx,
        inputs=masked_prompts,
        conditioning=MASKED,
        settings={"height": 32, "width": 32, "num_frames": 5, "guidance_rescale": 0.5},
    ),
    cogvideo("cogvideox", settings=CLIP),
    cogvideo("cogvideox-dynamic-cfg", settings=CLIP | {"use_dynamic_cfg": True}),
    wan_family("wan", make=wan, settings=CLIP),
    wan_family(
        "wan-2.2",
        denoisers=("transformer", "transformer_2"),
        make=partial(wan, 0.8),
        settings=CLIP | {"guidance_scale_2": 3.0},
    ),
    family(
        "hunyuan-video",
        "HunyuanVideoPipeline",
        "separate",
        make=hunyuan_video,
        inputs=hunyuan_prompts,
        conditioning=(*MASKED, "pooled_projections"),
        settings=CLIP,
        scale="true_cfg_scale",
    ),
)
