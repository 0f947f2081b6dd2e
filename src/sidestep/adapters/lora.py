"""A LoRA on a pipeline: read from a file, put on, left out for a while, and hashed.

Its layers stay beside those of the model instead of being added to them. So the model without it
is one switch away and exact, and a hash of both does not depend on how a machine rounds their sum.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sidestep.adapters.quiet import quiet
from sidestep.errors import BadModel, MissingExtra

WEIGHTS = "pytorch_lora_weights.safetensors"  # what diffusers' save_lora_weights writes
PICKLES = (".bin", ".ckpt", ".pkl", ".pt", ".pth")
ADAPTER = "lora"
# Not weights of a layer but the factor to a pair of them, in files of kohya's scripts.
FACTOR = ".alpha"


def attach(pipe: Any, source: Path | str | None, scale: float = 1.0) -> None:
    """Put the LoRA of a file on a pipeline's networks, in their precision and eval mode.

    Args:
        pipe: a diffusers pipeline without a LoRA.
        source: a .safetensors file in the format of diffusers or of kohya's scripts, or a folder
            with pytorch_lora_weights.safetensors or with one .safetensors file; None = no LoRA.
        scale: weight of the LoRA, 1 = as trained, 0 = none of it.

    Raises:
        BadModel: there is no such file, it is pickled or cut off, holds numbers that are not
            finite, or anything in it fits no layer of the model.
        MissingExtra: peft is not installed.
        ValueError: the scale is not finite, or there is no LoRA to weigh.
    """
    if source is None:
        if scale != 1.0:
            raise ValueError(f"lora_scale is {scale} and there is no LoRA; give its file as lora")
        return
    if not math.isfinite(scale):
        raise ValueError(f"lora_scale is {scale}; the weight of a LoRA must be a finite number")
    file = _file(Path(source))
    names = _names(file)
    if find_spec("peft") is None:
        install = "Install it with: pip install 'sidestep[lora]'"
        raise MissingExtra("peft", install, f"the LoRA {file}")
    if not hasattr(pipe, "load_lora_weights"):
        raise BadModel(f"{type(pipe).__name__} takes no LoRA in diffusers; leave {file} out")
    parts = networks(pipe)
    try:
        with quiet():
            pipe.load_lora_weights(
                str(file.parent),
                weight_name=file.name,
                adapter_name=ADAPTER,
                use_safetensors=True,
                local_files_only=True,
            )
    # diffusers, transformers and peft let through what their loaders meet.
    except Exception as error:
        raise _unfit(file, f"{type(error).__name__}: {_first_line(error)}") from error
    loaded = [tensor for part in parts for tensor in _tensors(part).values()]
    if len(loaded) != len(names):
        # diffusers only logs what it leaves out, and would sample another model than was asked for.
        raise _unfit(
            file, f"it holds {len(names)} tensors, and the model's layers took {len(loaded)}"
        )
    pipe.set_adapters([ADAPTER], [scale])
    for part in parts:
        own = next((p.dtype for n, p in part.named_parameters() if "base_layer" in n), None)
        for _, layer in _layers(part):
            # A file's settings may bring dropout, and another precision would be computed in.
            layer.to(own).eval()


def networks(pipe: Any) -> list[nn.Module]:
    """The networks of a pipeline, in the order of their names."""
    parts = sorted(pipe.components.items())
    return [part for _, part in parts if isinstance(part, nn.Module)]


def _file(source: Path) -> Path:
    if source.is_dir():
        if (source / WEIGHTS).is_file():
            return source / WEIGHTS
        found = sorted(source.glob("*.safetensors"))
        if len(found) == 1:
            return found[0]
        if found:
            raise BadModel(
                f"{source} holds {len(found)} .safetensors files ({found[0].name}, "
                f"{found[1].name}, ...); name the one that is the LoRA"
            )
        pickled = sorted(p for p in source.iterdir() if p.suffix in PICKLES)
        if not pickled:
            raise BadModel(f"{source} has no .safetensors file; a folder with {WEIGHTS} is wanted")
        source = pickled[0]
    if source.suffix in PICKLES:
        raise BadModel(
            f"{source} is a pickle, which may run code as it is read; only .safetensors is taken. "
            "Save the LoRA again with pipe.save_lora_weights(..., safe_serialization=True)"
        )
    if not source.is_file():
        raise BadModel(f"there is no {source}; give the .safetensors file of a LoRA, or its folder")
    if source.suffix != ".safetensors":
        raise BadModel(f"{source} is no .safetensors file; a LoRA is read from those alone")
    return source


def _names(file: Path) -> list[str]:
    """The names of a file's weights; every weight is looked at once."""
    try:
        with safe_open(file, framework="pt") as tensors:
            names = list(tensors.keys())
            bad = [n for n in names if not tensors.get_tensor(n).isfinite().all()]
    except (OSError, SafetensorError) as error:
        raise BadModel(
            f"{file} cannot be read ({error}); it is cut off or no safetensors file: fetch or save "
            "it again"
        ) from error
    if bad:
        raise BadModel(
            f"{file} holds numbers that are not finite (in {bad[0]}); its training diverged: take "
            "an earlier checkpoint, or train again with a lower learning rate"
        )
    if not names:
        raise BadModel(f"{file} is empty; give the file that the training wrote last")
    return [n for n in names if not n.endswith(FACTOR)]


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0][:200].rstrip(" :.") if text else "no reason given"


def _unfit(file: Path, why: str) -> BadModel:
    return BadModel(
        f"{file} does not fit this model ({why}); give a LoRA that was trained on this model or on "
        "one with the same layers, in the format of diffusers or kohya, without DoRA"
    )


@contextmanager
def detached(pipe: Any) -> Iterator[None]:
    """Let a pipeline's networks be without any LoRA inside the block, exactly."""
    layers = [m for part in networks(pipe) for _, m in _layers(part)]
    before = [layer.disable_adapters for layer in layers]
    try:
        for layer in layers:
            layer.enable_adapters(False)
        yield
    finally:
        for layer, was in zip(layers, before, strict=True):
            layer.enable_adapters(not was)


def base(part: nn.Module) -> dict[str, Tensor]:
    """A network's weights without a LoRA's, under the names that they have where there is none."""
    own = _tensors(part)
    return {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in part.state_dict().items()
        if name not in own
    }


def added(part: nn.Module) -> dict[str, Tensor]:
    """What a LoRA changes in a network now: its weights and their factors; nothing if it is off."""
    on = [(name, layer) for name, layer in _layers(part) if not layer.disable_adapters]
    factors = {
        f"{name}.scaling.{adapter}": torch.tensor(float(layer.scaling[adapter])).double()
        for name, layer in on
        for adapter in layer.active_adapters
    }
    return (_tensors(part) if on else {}) | factors


def _tensors(part: nn.Module) -> dict[str, Tensor]:
    layers = tuple(f"{name}." for name, _ in _layers(part))
    return {
        name: tensor
        for name, tensor in part.state_dict().items()
        if layers and name.startswith(layers) and ".base_layer." not in name
    }


def _layers(part: nn.Module) -> list[tuple[str, Any]]:
    """The layers that peft put in the place of others, known by what they have."""
    return [(n, m) for n, m in part.named_modules() if hasattr(m, "base_layer")]
