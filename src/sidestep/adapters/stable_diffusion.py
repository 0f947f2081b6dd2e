"""Stable Diffusion folders (diffusers format) as denoisers for the sampling loop."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sidestep.adapters.conditioned import ConditionedUNet
from sidestep.adapters.quiet import quiet
from sidestep.errors import BadModel, MissingExtra
from sidestep.mitigations.text import Text
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
    pipe.set_progress_bar_config(disable=True)
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
    def name(self) -> str:
        """The last part of the folder or Hub id it was loaded from; empty if it was built."""
        return Path(self.pipe.name_or_path or "").name

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return torch.device(self.pipe.unet.device)

    def count_tokens(self, prompt: str) -> int:
        """Tokens of a prompt with its start and end, before any cut."""
        return len(self.pipe.tokenizer(prompt).input_ids)

    @property
    def vocabulary(self) -> list[str]:
        """What a random word may be: the text of every token that is not a special one."""
        tokenizer = self.pipe.tokenizer
        special = set(tokenizer.all_special_ids)
        words = (tokenizer.decode([i]) for i in range(len(tokenizer)) if i not in special)
        return [word.strip() for word in words if word.strip()]

    @property
    def pads_with_end(self) -> bool:
        """Whether the tokenizer fills up prompts with its end token: SD 1 does, SD 2 does not."""
        return bool(self.pipe.tokenizer.pad_token_id == self.pipe.tokenizer.eos_token_id)

    @torch.no_grad()
    def embed(
        self,
        prompts: Sequence[str],
        pad: str | None = None,
        against: Sequence[str] | None = None,
    ) -> Text:
        """Prompt embeddings against those of the prompts `against`, empty ones unless given.

        `pad` fills up all of them instead of the tokenizer's own padding token. Longer prompts
        are cut.
        """
        other = [""] if against is None else list(against)
        hidden, length = self._encode([*prompts, *other], pad)
        cond, uncond = hidden[: len(prompts)], hidden[len(prompts) :]
        return Text(cond, uncond.expand_as(cond), length[: len(prompts)])

    def _encode(self, prompts: Sequence[str], pad: str | None) -> tuple[Tensor, Tensor]:
        tokens = self.pipe.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.max_tokens,
            truncation=True,
            return_tensors="pt",
        )
        given, mask = tokens.input_ids, tokens.attention_mask
        if pad is not None:
            number = self.pipe.tokenizer.convert_tokens_to_ids(pad)
            if number is None or number == self.pipe.tokenizer.unk_token_id:
                raise ValueError(
                    f"the tokenizer has no token {pad!r} to pad with; name one that it has"
                )
            given = torch.where(mask.bool(), given, number)
        masked = getattr(self.pipe.text_encoder.config, "use_attention_mask", False)
        (hidden,) = self.pipe.text_encoder(
            given.to(self.device),
            attention_mask=mask.to(self.device) if masked else None,
            return_dict=False,
        )[:1]
        return hidden, mask.sum(1).to(self.device)

    def denoiser(self, prompts: Sequence[str]) -> "ConditionedUNet":
        """The network with one prompt per sample, against the empty prompt."""
        unet = self.pipe.unet
        return ConditionedUNet(unet, unet, self.prediction_type, self.embed(prompts))

    def pictures(self, latents: Tensor) -> Tensor:
        """Clean latents (B, *latent_shape) to pictures (B, 3, H, W) in [-1, 1]; gradients flow."""
        vae = self.pipe.vae
        image: Tensor = vae.decode(latents.to(vae.dtype) / vae.config.scaling_factor).sample
        return image.float()

    @torch.no_grad()
    def decode(self, latents: Tensor) -> NDArray[np.uint8]:
        """Clean latents (B, *latent_shape) to pictures (B, H, W, 3) RGB."""
        image = self.pictures(latents)
        pixels = ((image / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        result: NDArray[np.uint8] = pixels.permute(0, 2, 3, 1).cpu().numpy()
        return result
