"""Pipelines that own a guider, with tiny random weights, each behind one call.

A `Tiny` has a pipeline, `run(guider) -> latents` for a fixed batch of three prompts and seeds, and
`by_hand(decide) -> latents`, an independent loop over the same network and scheduler.

A random network shows no dips of the gap, so each gets a term that grows with the distance of the
timestep from the sample's own dip and with its text.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import diffusers
import torch
from diffusers import modular_pipelines

BATCH, STEPS = 3, 10
DIPS = (800.0, 650.0, 350.0)  # timesteps


def rand(*shape, seed, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@dataclass
class Tiny:
    pipe: Any
    net: torch.nn.Module
    latents: torch.Tensor
    call: Callable[..., torch.Tensor]  # (guider, steps=STEPS, **kwargs) -> final latents
    predict: Callable[..., Any]  # (x, timestep) -> (uncond, cond), by separate calls
    sigmas: Callable[[int], Any] = lambda steps: None  # what the pipeline gives its scheduler
    calls: list[float] = field(default_factory=list)  # the timestep of every network call

    def __post_init__(self):
        self.net.register_forward_hook(self._dip, with_kwargs=True)

    def _dip(self, module, args, kwargs, out):
        timestep = kwargs["timestep"] if "timestep" in kwargs else args[1]
        text = kwargs["encoder_hidden_states"][:, 0, 0]
        assert len(text) == BATCH
        self.calls.append(float(timestep.flatten()[0]))
        size = 3 * (timestep / 1000 - torch.tensor(DIPS, dtype=text.dtype) / 1000).abs() * text
        (noise,) = out
        return (noise + size.view(-1, *[1] * (noise.ndim - 1)),)

    def run(self, guider, steps=STEPS, **kwargs):
        self.calls.clear()
        return self.call(guider, steps=steps, **kwargs)

    def per_step(self):
        """How many calls of the network each step of the last run made."""
        times = list(dict.fromkeys(self.calls))
        return [self.calls.count(t) for t in times]

    @torch.no_grad()
    def by_hand(self, decide, steps=STEPS):
        """The latents of a plain loop; `decide(timestep, scheduler, gaps)` is one sample's scale.

        `gaps` are those of the sample so far, in the units of the network's output.
        """
        scheduler = type(self.pipe.scheduler).from_config(self.pipe.scheduler.config)
        sigmas = self.sigmas(steps)
        scheduler.set_timesteps(
            **({"sigmas": sigmas} if sigmas else {"num_inference_steps": steps})
        )
        x = self.latents * getattr(scheduler, "init_noise_sigma", 1.0)
        gaps = [[] for _ in range(BATCH)]
        for t in scheduler.timesteps:
            scaled = getattr(scheduler, "scale_model_input", lambda x, t: x)(x, t)
            uncond, cond = self.predict(scaled, t)
            guided = []
            for b in range(BATCH):
                gaps[b].append(float((cond[b] - uncond[b]).double().norm()))
                scale = decide(b, float(t), scheduler, gaps[b])
                guided.append(uncond[b] + scale * (cond[b] - uncond[b]))
            x = scheduler.step(torch.stack(guided), t, x, return_dict=False)[0]
        return x


def texts(dtype):
    """Token and pooled embeddings, each (conditional, unconditional)."""
    tokens = [rand(BATCH, 5, 16, seed=s, dtype=dtype) for s in (1, 2)]
    return tokens, [rand(BATCH, 16, seed=s, dtype=dtype) for s in (3, 4)]


def first(dtype):
    return rand(BATCH, 4, 8, 8, seed=5, dtype=dtype)


def modular(blocks, dtype):
    """A modular pipeline without text encoders; its autoencoder only tells sizes."""
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8),
        norm_num_groups=4,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )
    blocks.sub_blocks.pop("text_encoder")
    pipe = blocks.init_pipeline()
    pipe.update_components(vae=vae.to(dtype))
    return pipe


def modular_call(pipe, dtype):
    text, pooled = texts(dtype)

    def call(guider, steps=STEPS, **kwargs):
        pipe.update_components(guider=guider)
        inputs = {
            "prompt_embeds": text[0],
            "negative_prompt_embeds": text[1],
            "pooled_prompt_embeds": pooled[0],
            "negative_pooled_prompt_embeds": pooled[1],
            "latents": first(dtype),
            "num_inference_steps": steps,
            "height": 16,
            "width": 16,
            "output_type": "latent",
            "output": "images",
        }
        return pipe(**inputs | kwargs)

    return call


def sdxl(dtype=torch.float32, scheduler=None, **config):
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
        cross_attention_dim=16,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=1,
        projection_class_embeddings_input_dim=64,
    )
    noise = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "timestep_spacing": "linspace",
        **config,
    }
    scheduler = (scheduler or diffusers.EulerDiscreteScheduler)(**noise)
    pipe = modular(modular_pipelines.StableDiffusionXLAutoBlocks(), dtype)
    pipe.update_components(unet=unet.to(dtype).eval(), scheduler=scheduler)
    text, pooled = texts(dtype)
    ids = torch.tensor([[16.0, 16, 0, 0, 16, 16]] * BATCH, dtype=dtype)

    @torch.no_grad()
    def predict(x, timestep):
        return tuple(
            unet(
                x,
                timestep,
                encoder_hidden_states=text[k],
                added_cond_kwargs={"text_embeds": pooled[k], "time_ids": ids},
                return_dict=False,
            )[0]
            for k in (1, 0)
        )

    return Tiny(pipe, unet, first(dtype), modular_call(pipe, dtype), predict)


def sd3(dtype=torch.float32):
    torch.manual_seed(0)
    net = diffusers.SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        caption_projection_dim=16,
        pooled_projection_dim=16,
        pos_embed_max_size=16,
    )
    pipe = modular(modular_pipelines.StableDiffusion3AutoBlocks(), dtype)
    pipe.update_components(
        transformer=net.to(dtype).eval(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    )
    text, pooled = texts(dtype)

    @torch.no_grad()
    def predict(x, timestep):
        time = timestep.expand(BATCH)
        return tuple(
            net(
                hidden_states=x,
                timestep=time,
                encoder_hidden_states=text[k],
                pooled_projections=pooled[k],
                return_dict=False,
            )[0]
            for k in (1, 0)
        )

    return Tiny(pipe, net, first(dtype), modular_call(pipe, dtype), predict)


def hunyuan_video(dtype=torch.float32):
    """A class pipeline that owns a guider."""
    torch.manual_seed(0)
    net = diffusers.HunyuanVideo15Transformer3DModel(
        in_channels=9,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=1,
        num_refiner_layers=1,
        text_embed_dim=16,
        text_embed_2_dim=16,
        image_embed_dim=16,
        rope_axes_dim=(4, 6, 6),
        target_size=16,
        task_type="t2v",
    )
    vae = diffusers.AutoencoderKLHunyuanVideo15(
        latent_channels=4,
        block_out_channels=(8, 8, 8),
        layers_per_block=1,
        spatial_compression_ratio=4,
        temporal_compression_ratio=4,
    )
    pipe = diffusers.HunyuanVideo15Pipeline(
        text_encoder=None,
        tokenizer=None,
        transformer=net.to(dtype).eval(),
        vae=vae.to(dtype),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        text_encoder_2=None,
        tokenizer_2=None,
        guider=diffusers.ClassifierFreeGuidance(),
    )
    pipe.vision_num_semantic_tokens = 3
    pipe.set_progress_bar_config(disable=True)
    text = [rand(BATCH, 5, 16, seed=s, dtype=dtype) for s in (1, 2)]
    glyph = [rand(BATCH, 4, 16, seed=s, dtype=dtype) for s in (3, 4)]
    masks = torch.ones(BATCH, 5), torch.ones(BATCH, 4)
    latents = rand(BATCH, 4, 1, 4, 4, seed=5, dtype=dtype)

    def call(guider, steps=STEPS, **kwargs):
        pipe.guider = guider
        inputs = {
            "prompt_embeds": text[0],
            "negative_prompt_embeds": text[1],
            "prompt_embeds_2": glyph[0],
            "negative_prompt_embeds_2": glyph[1],
            **{f"{n}prompt_embeds_mask": masks[0] for n in ("", "negative_")},
            **{f"{n}prompt_embeds_mask_2": masks[1] for n in ("", "negative_")},
            "latents": latents.clone(),
            "num_inference_steps": steps,
            "num_frames": 1,
            "height": 16,
            "width": 16,
            "output_type": "latent",
        }
        return pipe(**inputs | kwargs).frames

    @torch.no_grad()
    def predict(x, timestep):
        empty = torch.zeros(BATCH, 5, *x.shape[2:], dtype=dtype)
        return tuple(
            net(
                hidden_states=torch.cat([x, empty], dim=1),
                image_embeds=torch.zeros(BATCH, 3, 16, dtype=dtype),
                timestep=timestep.expand(BATCH).to(dtype),
                timestep_r=None,
                encoder_hidden_states=text[k],
                encoder_attention_mask=masks[0].to(dtype),
                encoder_hidden_states_2=glyph[k],
                encoder_attention_mask_2=masks[1].to(dtype),
                return_dict=False,
            )[0]
            for k in (1, 0)
        )

    return Tiny(pipe, net, latents, call, predict, lambda n: [1 - k / n for k in range(n)])


ALL = {"sdxl": sdxl, "sd3": sd3, "hunyuan-video": hunyuan_video}
