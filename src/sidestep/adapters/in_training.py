"""The modules of a training script as a Stable Diffusion to sample from, as they are right now."""

from types import SimpleNamespace
from typing import Any

from torch import nn

from sidestep.adapters.stable_diffusion import StableDiffusion
from sidestep.errors import BadModel, MissingExtra

FAMILY = "StableDiffusionPipeline"


def in_training(
    *,
    unet: Any,
    text_encoder: Any,
    vae: Any,
    tokenizer: Any,
    scheduler: Any,
    resolution: int | None = None,
) -> StableDiffusion:
    """A Stable Diffusion 1 or 2 whose modules are those of a running training, shared.

    Modules may be wrapped by accelerate, DistributedDataParallel or torch.compile: they are asked
    beneath the wrapping, with the mixed precision that accelerate gave them. Adapters of peft stay
    in force. Nothing is copied, moved or cast.

    Args:
        unet: of Stable Diffusion's kind; its first weight's type is that of its inputs.
        text_encoder: on the UNet's device, like `vae`.
        vae: decodes the latents.
        tokenizer: of the text encoder.
        scheduler: the training's, such as DDPMScheduler: it has the noise levels and says what
            the UNet predicts.
        resolution: side of the pictures in pixels; None = what the UNet was first trained on.

    Raises:
        BadModel: the weights of a module are spread over processes, modules are on different
            devices, or the scheduler says that the UNet predicts neither noise nor velocity.
        MissingExtra: accelerate is not installed.
        ValueError: a resolution that the decoder cannot make.
    """
    modules = {"unet": unet, "text_encoder": text_encoder, "vae": vae}
    modules = {name: unwrapped(name, module) for name, module in modules.items()}
    devices = {name: str(next(m.parameters()).device) for name, m in modules.items()}
    if len(set(devices.values())) > 1:
        where = ", ".join(f"{name} on {device}" for name, device in devices.items())
        raise BadModel(f"the modules lie on different devices ({where}); move them to one first")
    pipe = SimpleNamespace(
        **modules,
        tokenizer=tokenizer,
        scheduler=scheduler,
        # As StableDiffusionPipeline has it. That class itself edits the configurations of what it
        # is made from, which the training goes on using.
        vae_scale_factor=2 ** (len(modules["vae"].config.block_out_channels) - 1),
        name_or_path="",
    )
    return StableDiffusion(pipe, resolution)


def of_pipeline(pipe: Any, resolution: int | None = None) -> StableDiffusion:
    """The same of a pipeline's modules; BadModel for another class than StableDiffusionPipeline."""
    if type(pipe).__name__ != FAMILY:
        raise BadModel(f"{type(pipe).__name__} is not known here; give a {FAMILY} or its modules")
    names = ("unet", "text_encoder", "vae", "tokenizer", "scheduler")
    return in_training(**{name: getattr(pipe, name) for name in names}, resolution=resolution)


def unwrapped(name: str, module: Any) -> Any:
    """A module without what accelerate and torch wrapped around it; it keeps its precision.

    Raises BadModel for what is no module and for one that a single process does not hold whole.
    """
    if not isinstance(module, nn.Module):
        raise BadModel(f"{name} came as {type(module).__name__}; give the module of the training")
    if spread(module):
        raise BadModel(
            f"the weights of {name} are spread over processes (FSDP or DeepSpeed ZeRO-3), and one "
            "process alone cannot sample; save the weights and watch the saved ones"
        )
    try:
        from accelerate.utils import extract_model_from_parallel
    except ImportError as error:
        install = "Install it with: pip install 'sidestep[diffusers]'"
        raise MissingExtra("accelerate", install, "watching a training") from error
    # keep_fp32_wrapper=False would take the mixed precision off the network that is trained.
    return extract_model_from_parallel(module, keep_fp32_wrapper=True, keep_torch_compile=False)


def spread(module: nn.Module) -> bool:
    """Whether a process holds only a part of the module's weights."""
    return any(type(m).__name__ == "FullyShardedDataParallel" for m in module.modules()) or any(
        hasattr(p, "ds_id") or type(p.data).__name__ == "DTensor" for p in module.parameters()
    )
