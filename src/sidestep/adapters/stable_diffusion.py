"""Stable Diffusion folders (diffusers format) as denoisers for the sampling loop."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sidestep.adapters.quiet import quiet
from sidestep.errors import BadModel, MissingExtra
from sidestep.guidance.base import Needs, Prediction
from sidestep.guidance.denoiser import Level
from sidestep.sampling.noise import NoiseSchedule

FAMILY = "StableDiffusionPipeline"


def load(path: Path | str, device: torch.device | str = "cpu") -> "StableDiffusion":
    """Load a local StableDiffusionPipeline folder in float32.

    Raises BadModel for a folder that is missing, incomplete or of another family, and
    MissingExtra without diffusers.
    """
    path = Path(path)
    index = path / "model_index.json"
    if not path.is_dir():
        raise BadModel(f"{path} is not a folder; give a local folder in the {FAMILY} layout")
    try:
        found = json.loads(index.read_text(encoding="utf-8"))["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadModel(
            f"{path} has no readable model_index.json ({error}); "
            f"give a folder that {FAMILY}.save_pretrained wrote"
        ) from error
    if found != FAMILY:
        raise BadModel(f"{path} holds a {found}; this version samples {FAMILY} folders")
    try:
        with quiet():
            from diffusers import StableDiffusionPipeline

            pipe = _read(StableDiffusionPipeline, path)
    except ImportError as error:
        raise MissingExtra(
            "diffusers", "Install it with: pip install 'sidestep[diffusers]'", f"loading {path}"
        ) from error
    return StableDiffusion(pipe.to(device))


def _read(pipeline: Any, path: Path) -> Any:
    try:
        return pipeline.from_pretrained(
            path, local_files_only=True, safety_checker=None, dtype=torch.float32
        )
    # diffusers lets whatever its loaders meet through: OSError, ValueError, safetensors' own.
    except Exception as error:
        raise BadModel(
            f"{path} cannot be loaded ({type(error).__name__}: {error}); "
            "a file is missing or cut off: fetch or save the model again"
        ) from error


class StableDiffusion:
    """A loaded Stable Diffusion 1 or 2: prompts in, denoisers out, latents to pictures."""

    def __init__(self, pipe: Any) -> None:
        """Wrap a diffusers StableDiffusionPipeline; its modules are shared, not copied."""
        pipe.set_progress_bar_config(disable=True)
        self.pipe = pipe
        config = pipe.scheduler.config
        self.prediction_type = str(config.prediction_type)
        if self.prediction_type not in ("epsilon", "v_prediction"):
            raise BadModel(
                f"the model predicts {self.prediction_type!r}; epsilon and v_prediction are known"
            )
        self.schedule = NoiseSchedule(pipe.scheduler.alphas_cumprod.double().cpu())
        side = pipe.unet.config.sample_size
        self.latent_shape = (int(pipe.unet.config.in_channels), int(side), int(side))
        self.max_tokens = int(pipe.tokenizer.model_max_length)

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return torch.device(self.pipe.unet.device)

    def count_tokens(self, prompt: str) -> int:
        """Tokens of a prompt with its start and end, before any cut."""
        return len(self.pipe.tokenizer(prompt).input_ids)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Prompt embeddings, (B, tokens, width); longer prompts are cut at `max_tokens`."""
        tokens = self.pipe.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.max_tokens,
            truncation=True,
            return_tensors="pt",
        )
        mask = None
        if getattr(self.pipe.text_encoder.config, "use_attention_mask", False):
            mask = tokens.attention_mask.to(self.device)
        hidden: Tensor = self.pipe.text_encoder(
            tokens.input_ids.to(self.device), attention_mask=mask
        )[0]
        return hidden

    def denoiser(self, prompts: Sequence[str]) -> "ConditionedUNet":
        """The network with one prompt per sample, against the empty prompt."""
        cond = self.encode(prompts)
        return ConditionedUNet(self, cond, self.encode([""]).expand_as(cond))

    @torch.no_grad()
    def decode(self, latents: Tensor) -> NDArray[np.uint8]:
        """Clean latents (B, *latent_shape) to pictures (B, H, W, 3) RGB."""
        image = self.pipe.vae.decode(latents / self.pipe.vae.config.scaling_factor).sample
        pixels = ((image / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        result: NDArray[np.uint8] = pixels.permute(0, 2, 3, 1).cpu().numpy()
        return result


class ConditionedUNet:
    """A denoiser for the sampling loop: B prompts bound to the network."""

    def __init__(self, model: StableDiffusion, cond: Tensor, uncond: Tensor) -> None:
        """Embeddings of shape (B, tokens, width)."""
        self.model, self.cond, self.uncond = model, cond, uncond

    def select(self, rows: Tensor) -> "ConditionedUNet":
        """The denoiser of some samples of the batch."""
        return ConditionedUNet(self.model, self.cond[rows], self.uncond[rows])

    def __call__(self, x: Tensor, level: Level, needs: Needs) -> Prediction:
        """Noise predictions in float32; both branches run as one batch when both are needed."""
        if needs.uncond and needs.cond:
            hidden = torch.cat([self.uncond, self.cond])
            uncond, cond = self._noise(torch.cat([x, x]), level, hidden).chunk(2)
            return Prediction(uncond, cond, level.time)
        one = self._noise(x, level, self.cond if needs.cond else self.uncond)
        return Prediction(one, one, level.time)

    def _noise(self, x: Tensor, level: Level, hidden: Tensor) -> Tensor:
        unet = self.model.pipe.unet
        (answer,) = unet(x.to(unet.dtype), level.timestep, hidden, return_dict=False)
        output: Tensor = answer.float()
        if self.model.prediction_type == "v_prediction":
            output = level.alpha * output + level.sigma * x
        return output
