"""What a rule costs inside a diffusers pipeline, beside plain guidance: `python -m benchmarks`.

FLOPs and wall time for the shapes of SD, SDXL, SD3 and Wan (random weights, fewer channels and
layers), and the hook's own time per step. A step of these takes some 0.1 s on two cores; the hooks'
time does not grow with the network, so that it weighs less on a real one.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

import sidestep
from sidestep.adapters.pipeline.hooks import Hooked

STEPS, ROUNDS = 10, 5
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
QUIET: dict[str, Any] = {"text_encoder": None, "tokenizer": None}


def _vae() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(block_out_channels=(4,), norm_num_groups=1, latent_channels=4)


def _unet(**more: Any) -> Any:
    from diffusers import UNet2DConditionModel

    settings: dict[str, Any] = {
        "sample_size": 32,
        "block_out_channels": (64, 128),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": 32,
        "attention_head_dim": 8,
    }
    return UNet2DConditionModel(**settings | more)


def sd() -> tuple[Any, dict[str, Any]]:
    """Stable Diffusion: a UNet with 77 tokens."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    pipe = StableDiffusionPipeline(
        vae=_vae(),
        unet=_unet(),
        scheduler=DDIMScheduler(**BETAS, clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **QUIET,
    )
    return pipe, _pair("prompt_embeds", 77, 32)


def sdxl() -> tuple[Any, dict[str, Any]]:
    """SDXL: pooled embeddings and sizes beside the tokens."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    pipe = StableDiffusionXLPipeline(
        vae=_vae(),
        unet=_unet(
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=8 * 6 + 16,
        ),
        scheduler=EulerDiscreteScheduler(**BETAS),
        text_encoder_2=None,
        tokenizer_2=None,
        **QUIET,
    )
    return pipe, _pair("prompt_embeds", 77, 32) | _pair("pooled_prompt_embeds", 16)


def sd3() -> tuple[Any, dict[str, Any]]:
    """Stable Diffusion 3: a joint transformer."""
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Pipeline,
    )

    transformer = SD3Transformer2DModel(
        sample_size=32,
        in_channels=4,
        out_channels=4,
        num_layers=6,
        attention_head_dim=32,
        num_attention_heads=8,
        joint_attention_dim=32,
        caption_projection_dim=256,
        pooled_projection_dim=16,
    )
    pipe = StableDiffusion3Pipeline(
        vae=_vae(),
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        text_encoder_2=None,
        tokenizer_2=None,
        text_encoder_3=None,
        tokenizer_3=None,
        **QUIET,
    )
    return pipe, _pair("prompt_embeds", 77, 32) | _pair("pooled_prompt_embeds", 16)


def wan() -> tuple[Any, dict[str, Any]]:
    """Wan: two calls of a video transformer."""
    from diffusers import (
        AutoencoderKLWan,
        FlowMatchEulerDiscreteScheduler,
        WanPipeline,
        WanTransformer3DModel,
    )

    transformer = WanTransformer3DModel(
        num_attention_heads=8,
        attention_head_dim=32,
        in_channels=4,
        out_channels=4,
        text_dim=32,
        freq_dim=32,
        ffn_dim=1024,
        num_layers=6,
    )
    vae = AutoencoderKLWan(
        base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1,
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(shift=7.0)
    pipe = WanPipeline(vae=vae, transformer=transformer, scheduler=scheduler, **QUIET)
    size = {"height": 192, "width": 192, "num_frames": 5}
    return pipe, _pair("prompt_embeds", 64, 32) | size


def _pair(name: str, *shape: int) -> dict[str, Any]:
    made = [torch.randn(2, *shape, generator=torch.Generator().manual_seed(s)) for s in (0, 1)]
    return {name: made[0], f"negative_{name}": made[1]}


RULES: dict[str, Any] = {
    "static 0.5, before 0": sidestep.Static(0.5),
    "static 0.7, before 1": sidestep.Static(0.7, before=1.0),
    "dynamic": sidestep.Dynamic(),
}


def _flops(call: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def pipelines() -> Table:
    """FLOPs, time and the hooks' own time of each rule on each shape; medians of paired runs."""
    torch.manual_seed(0)
    table = Table(
        "pipeline", "rule", "FLOPs / plain", "NFE / plain", "time / plain", "hooks, ms a step",
        title=f"Rules inside diffusers pipelines, {STEPS} steps, 2 samples",
    )  # fmt: skip
    for make in (sd, sdxl, sd3, wan):
        pipe, inputs = make()
        pipe.set_progress_bar_config(disable=True)

        def once(pipe: Any = pipe, inputs: Any = inputs) -> None:
            generators = [torch.Generator().manual_seed(i) for i in range(2)]
            pipe(
                **inputs, num_inference_steps=STEPS, guidance_scale=7.5,
                generator=generators, output_type="latent",
            )  # fmt: skip

        plain = _flops(once)
        spared = {}
        for name, rule in RULES.items():
            with sidestep.guide(pipe, rule) as run:
                spared[name] = (_flops(once) / plain, run.trace.cost)
        ratios: dict[str, list[float]] = {name: [] for name in RULES}
        hooks: dict[str, list[float]] = {name: [] for name in RULES}
        bare = _seconds(once)
        for _ in range(ROUNDS):
            for name, rule in RULES.items():
                with _timed() as spent, sidestep.guide(pipe, rule):
                    guided = _seconds(once)
                # Plain guidance before and after, since a machine's speed drifts.
                before, bare = bare, _seconds(once)
                ratios[name].append(2 * guided / (before + bare))
                hooks[name].append(1000 * sum(spent) / STEPS)
        for name in RULES:
            flops, cost = spared[name]
            table.add_row(
                make.__name__, name, f"{flops:.3f}", f"{cost:.3f}",
                f"{median(ratios[name]):.3f}", f"{median(hooks[name]):.2f}",
            )  # fmt: skip
    return table


@contextmanager
def _timed() -> Iterator[list[float]]:
    """The seconds of every hook that is called meanwhile."""
    spent: list[float] = []
    own = {name: getattr(Hooked, name) for name in ("_before", "_after")}

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            start = time.perf_counter()
            result = method(*args)
            spent.append(time.perf_counter() - start)
            return result

        return call

    for name, method in own.items():
        setattr(Hooked, name, timed(method))
    try:
        yield spent
    finally:
        for name, method in own.items():
            setattr(Hooked, name, method)


if __name__ == "__main__":
    from rich.console import Console

    Console().print(pipelines())
