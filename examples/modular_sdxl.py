"""A rule as the guider of a modular SDXL pipeline, with tiny random weights in place of a model.

With a real model the first function is
`modular = ModularPipeline.from_pretrained(...); modular.load_components(...)`, and the prompts are
text.
"""

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, ModularPipeline, UNet2DConditionModel
from diffusers.modular_pipelines import StableDiffusionXLAutoBlocks

import sidestep


def tiny() -> ModularPipeline:
    """A modular SDXL without text encoders, a few thousand random weights."""
    torch.manual_seed(0)
    blocks = StableDiffusionXLAutoBlocks()
    blocks.sub_blocks.pop("text_encoder")
    modular = blocks.init_pipeline()
    modular.update_components(
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
        ),
        vae=AutoencoderKL(block_out_channels=(8,), norm_num_groups=4),
        unet=UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 16),
            norm_num_groups=4,
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=4,
            cross_attention_dim=16,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=64,
        ),
    )
    return modular


def main() -> None:
    """Sample two pictures; each has its own transition."""
    modular = tiny()
    guider = sidestep.Guider(
        sidestep.Static(time=(0.7, 0.5), before=0.0),
        guidance_scale=7.5,
        scheduler=modular.scheduler,
    )
    modular.update_components(guider=guider)
    images = modular(
        prompt_embeds=torch.randn(2, 5, 16),
        negative_prompt_embeds=torch.randn(2, 5, 16),
        pooled_prompt_embeds=torch.randn(2, 16),
        negative_pooled_prompt_embeds=torch.randn(2, 16),
        num_inference_steps=10,
        height=8,
        width=8,
        output="images",
    )
    trace = guider.trace
    print(f"{len(images)} pictures, guidance came on at steps {trace.transition.tolist()}")
    print(f"cost relative to plain guidance: {trace.cost:.2f}")


if __name__ == "__main__":
    main()
