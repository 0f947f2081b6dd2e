"""A Stable Diffusion with random weights, and a call of it."""

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from sidestep.models import embedded

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def unet(seed=0):
    torch.manual_seed(seed)
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=8, attention_head_dim=2,
    ).eval()  # fmt: skip


def build():
    torch.manual_seed(1)
    vae = AutoencoderKL(
        block_out_channels=(4,), norm_num_groups=1, latent_channels=4, sample_size=8
    )
    made = StableDiffusionPipeline(
        vae=vae.eval(), unet=unet(),
        scheduler=DDIMScheduler(**BETAS, steps_offset=1, clip_sample=False),
        text_encoder=None, tokenizer=None, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    made.set_progress_bar_config(disable=True)
    return made


def call(pipe, batch=2, steps=4, scale=5.0, **more):
    rows = [torch.Generator().manual_seed(i) for i in range(batch)]
    prompts = [torch.randn(3, 8, generator=g) for g in rows]
    settings = {
        "prompt_embeds": torch.stack(prompts),
        "negative_prompt_embeds": torch.stack([-p for p in prompts]),
        "num_inference_steps": steps,
        "guidance_scale": scale,
        "generator": rows,
        "output_type": "latent",
    }
    return pipe(**settings | more).images


def build_with_text():
    """The same with the embedded model's tokenizer and a text encoder of random weights."""
    made, words = build(), embedded.folder() / "tokenizer"
    made.tokenizer = CLIPTokenizer.from_pretrained(words)
    torch.manual_seed(2)
    config = CLIPTextConfig(
        vocab_size=len(made.tokenizer), hidden_size=8, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=made.tokenizer.model_max_length,
        bos_token_id=made.tokenizer.bos_token_id, eos_token_id=made.tokenizer.eos_token_id,
    )  # fmt: skip
    made.text_encoder = CLIPTextModel(config).eval()
    return made
