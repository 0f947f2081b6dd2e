"""Where a pipeline is read from: a folder, the Hub, and another UNet in its place."""

import inspect
import json
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from sidestep.adapters.devices import usable
from sidestep.adapters.lora import attach
from sidestep.adapters.quiet import quiet
from sidestep.errors import BadModel, MissingExtra

FAMILY = "StableDiffusionPipeline"
INDEX = "model_index.json"
UNUSED = ("safety_checker", "feature_extractor")  # no picture depends on them
# What changes pictures once they are made: blackens some, or hides a mark in all of them, and that
# only where another package is installed.
AFTERWARDS = {"safety_checker": None, "add_watermarker": False}
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def read(
    source: Path | str,
    unet: Path | str | None = None,
    *,
    families: Sequence[str] = (FAMILY,),
    dtype: torch.dtype = torch.float32,
) -> Any:
    """The diffusers pipeline of a folder or a Hub id, without safety checker and watermark.

    A name of the form OWNER/NAME that is no folder here is asked for on the Hub, or taken from its
    local cache. `unet` is a folder with config.json whose UNet takes the place of the pipeline's.
    `families` are the pipeline classes that are taken, `dtype` is the precision of the weights.
    Raises BadModel for what is missing, incomplete, pickled, of another family or does not fit
    together, and MissingExtra without diffusers.
    """
    remote = not Path(source).exists() and HUB_ID.fullmatch(str(source)) is not None
    # A folder that is refused is refused before anything heavy is imported.
    index: Any = {} if remote else _local_index(Path(source))
    family = "" if remote else _family(index, source, families)
    try:
        with quiet():
            import diffusers

            if remote:
                index = _remote_index(diffusers.DiffusionPipeline, str(source))
                family = _family(index, source, families)
            # What was saved without a part, an SD3 without T5 for example, is said to lack it.
            settings: dict[str, Any] = {k: None for k, v in index.items() if v == [None, None]}
            settings["dtype"] = dtype
            if unet is not None:
                kind = diffusers.UNet2DConditionModel
                settings["unet"] = _part(kind, Path(unet), dtype=dtype)
            made = getattr(diffusers, family)
            takes = inspect.signature(made.__init__).parameters
            settings |= {name: value for name, value in AFTERWARDS.items() if name in takes}
            pipe = _part(made, source, remote=remote, **settings)
    except ImportError as error:
        raise _missing(f"loading {source}") from error
    if unet is not None:
        _check_fit(pipe, unet)
    return pipe


def ready(
    source: Path | str,
    device: torch.device | str,
    lora: Path | str | None,
    lora_scale: float,
    **settings: Any,
) -> Any:
    """The same on a device, with a LoRA on it unless that is None, and without progress bars.

    `settings` are those of `read`. Raises as `devices.usable`, `read` and `lora.attach` do.
    """
    place = usable(device)
    pipe = read(source, **settings)
    attach(pipe, lora, lora_scale)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(place)


def check_installed() -> None:
    """Raise MissingExtra unless the packages that read a model are installed; imports none."""
    if any(find_spec(package) is None for package in ("diffusers", "transformers")):
        raise _missing("sampling a Stable Diffusion")


def _missing(purpose: str) -> MissingExtra:
    return MissingExtra("diffusers", "Install it with: pip install 'sidestep[diffusers]'", purpose)


def missing_parts(folder: Path) -> list[str]:
    """What a local pipeline folder lacks: its index, or folders that the index names."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return [INDEX]
    named = [k for k, v in index.items() if isinstance(v, list) and v[0] is not None]
    return [k for k in named if k not in UNUSED and not (folder / k).is_dir()]


def cached(hub: str, file: str = INDEX) -> bool:
    """Whether the Hub's local cache has that file of an id; asks nobody, loads no weights.

    A pipeline is there if its index is.
    """
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return False
    return isinstance(try_to_load_from_cache(hub, file), str)


def _local_index(path: Path) -> Any:
    if not path.is_dir():
        raise BadModel(
            f"{path} is not a folder; give a local folder in diffusers' layout, or a Hub id "
            "such as OWNER/NAME"
        )
    try:
        return json.loads((path / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _no_index(path, error) from error


def _remote_index(pipeline: Any, hub: str) -> Any:
    try:
        return pipeline.load_config(hub)
    except OSError as error:
        reason = " ".join(str(error).split())
        raise BadModel(
            f"{hub} is no folder here, and the Hub did not give it ({reason.rstrip(' .')}). Check "
            "the name and the network, or fetch the model elsewhere and give its folder"
        ) from error


def _family(index: Any, source: Path | str, families: Sequence[str]) -> str:
    try:
        found = str(index["_class_name"])
    except (KeyError, TypeError) as error:
        raise _no_index(source, error) from error
    if found not in families:
        raise BadModel(f"{source} holds a {found}; this takes {', '.join(families)}")
    return found


def _no_index(source: Path | str, error: Exception) -> BadModel:
    return BadModel(
        f"{source} has no readable {INDEX} ({error}); "
        "give a folder that a pipeline's save_pretrained wrote"
    )


def _part(kind: Any, source: Path | str, *, remote: bool = False, **settings: Any) -> Any:
    try:
        # Without this diffusers would take a pickle where there are no safetensors.
        return kind.from_pretrained(
            source, local_files_only=not remote, use_safetensors=True, **settings
        )
    # diffusers lets whatever its loaders meet through: OSError, ValueError, safetensors' own.
    except Exception as error:
        raise BadModel(
            f"{source} cannot be loaded ({type(error).__name__}: {error}); "
            "a file is missing or cut off, or a part needs code of its own, which is not run: "
            "fetch or save the model again"
        ) from error


def _check_fit(pipe: Any, unet: Path | str) -> None:
    """Refuse a UNet of another model before it is asked for a picture."""
    pairs = {
        "width of prompt embeddings": (
            pipe.unet.config.cross_attention_dim,
            pipe.text_encoder.config.hidden_size,
        ),
        "latent channels": (pipe.unet.config.in_channels, pipe.vae.config.latent_channels),
    }
    for what, (has, needs) in pairs.items():
        if has != needs:
            raise BadModel(
                f"the UNet in {unet} has {what} {has} and the rest of the model {needs}; give the "
                "UNet of a fine-tuned copy of the same model"
            )
