"""The modules of a training script as a model to sample from, as they are right now."""

import copy
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from sidestep.adapters import weights
from sidestep.adapters.checkpoints import FAMILY
from sidestep.adapters.decoder import Decoder
from sidestep.adapters.pipeline.handle import NETWORKS
from sidestep.adapters.pipelined import CLASSES, Pipelined
from sidestep.adapters.stable_diffusion import StableDiffusion
from sidestep.errors import BadModel, MissingExtra

# Text encoders that a family goes without.
OPTIONAL = {
    "StableDiffusionXLPipeline": {"text_encoder"},
    "StableDiffusion3Pipeline": {"text_encoder_3"},
}


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
    _on_one_device(modules)
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


def of_pipeline(pipe: Any, resolution: int | None = None) -> StableDiffusion | Pipelined:
    """The same of a pipeline's modules, of Stable Diffusion or of one of `pipelined.CLASSES`.

    Such a one is sampled by its own loop through a copy of the pipeline, which has a copy of the
    scheduler and shares the networks: nothing that is set on it shows on `pipe`. The networks need
    not be of one precision, which the training scripts of diffusers bridge by an autocast.

    Raises BadModel also for another class, for text encoders that are not there, and for a pipeline
    that offloads its networks.
    """
    family = type(pipe).__name__
    if family == FAMILY:
        names = ("unet", "text_encoder", "vae", "tokenizer", "scheduler")
        return in_training(**{name: getattr(pipe, name) for name in names}, resolution=resolution)
    if family not in CLASSES:
        raise BadModel(
            f"{family} is not known here; give a {FAMILY} or its modules, or one of "
            f"{', '.join(CLASSES)}"
        )
    _check_encoders(pipe)
    if getattr(pipe, "_all_hooks", None):
        raise BadModel(
            "the pipeline offloads its networks (enable_model_cpu_offload), and a call would move "
            "those that are trained; leave the offloading out"
        )
    parts = {n: part for n, part in pipe.components.items() if isinstance(part, nn.Module)}
    modules = {name: _base(unwrapped(name, part)) for name, part in parts.items()}
    _on_one_device(modules)
    return Pipelined(_borrowed(pipe, modules), resolution)


def networks(model: StableDiffusion | Pipelined) -> dict[str, nn.Module]:
    """The modules of a model from here, by their names."""
    found = vars(model.pipe).items()
    return {name: part for name, part in found if isinstance(part, nn.Module)}


def precision(model: StableDiffusion | Pipelined) -> dict[str, str]:
    """The number format of each network's weights, such as float16; a LoRA's is not looked at."""
    return {name: weights.precision(part) for name, part in sorted(networks(model).items())}


def _check_encoders(pipe: Any) -> None:
    spared = OPTIONAL.get(type(pipe).__name__, set())
    encoders = {n: part for n, part in pipe.components.items() if n.startswith("text_encoder")}
    absent = {name for name, part in encoders.items() if part is None}
    if absent - spared or len(absent) == len(encoders):
        raise BadModel(
            f"the pipeline has no {' and no '.join(sorted(absent))}, and captions cannot be read; "
            "where a training embeds its prompts beforehand and drops the text encoders, give a "
            "pipeline that has kept them (on the device of the network), and the tokenizers"
        )


def _on_one_device(modules: Mapping[str, nn.Module]) -> None:
    devices = {name: str(next(m.parameters()).device) for name, m in modules.items()}
    if len(set(devices.values())) > 1:
        where = ", ".join(f"{name} on {device}" for name, device in devices.items())
        raise BadModel(f"the modules lie on different devices ({where}); move them to one first")


def _base(module: Any) -> Any:
    """What peft wrapped, adapters in force: pipelines ask for what their own networks have."""
    return module.get_base_model() if hasattr(module, "get_base_model") else module


def _borrowed(pipe: Any, modules: dict[str, nn.Module]) -> Any:
    """A copy of the pipeline that may be called and set without a trace on the original.

    Prompts come out in the precision of the network, and with them the first noise, as in a
    pipeline that is of one precision.
    """
    own = copy.copy(pipe)
    # Past its __setattr__, which notes the kinds of modules in its configuration.
    vars(own).update(modules, vae=Decoder(modules["vae"]), scheduler=copy.deepcopy(pipe.scheduler))
    network: Any = next(modules[name] for name in NETWORKS if name in modules)
    vars(own)["encode_prompt"] = _in(network.dtype, own.encode_prompt)
    return own


def _in(dtype: torch.dtype, encode: Callable[..., Any]) -> Callable[..., Any]:
    def cast(made: Any) -> Any:
        if isinstance(made, list | tuple):  # some give a list, a tensor for each prompt
            parts = [cast(part) for part in made]
            return parts if isinstance(made, list) else tuple(parts)
        floating = isinstance(made, torch.Tensor) and made.is_floating_point()
        return made.to(dtype) if floating else made

    return lambda *args, **kwargs: cast(encode(*args, **kwargs))


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
