"""Stable Diffusion folders (diffusers format) as denoisers for the sampling loop."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sidestep.adapters import lora as adapter
from sidestep.adapters.checkpoints import ready
from sidestep.adapters.conditioned import ConditionedUNet
from sidestep.adapters.pixels import pixels, whole
from sidestep.adapters.weights import fingerprint, precision, settings
from sidestep.errors import BadModel
from sidestep.mitigations.text import Text
from sidestep.sampling.mitigated import OURS
from sidestep.sampling.noise import NoiseSchedule


def load(
    source: Path | str,
    device: torch.device | str = "cpu",
    *,
    unet: Path | str | None = None,
    lora: Path | str | None = None,
    lora_scale: float = 1.0,
    resolution: int | None = None,
) -> "StableDiffusion":
    """Load a StableDiffusionPipeline folder, or a Hub id, in float32.

    `unet` is a folder whose UNet takes the place of the pipeline's; `lora` is the .safetensors file
    of a LoRA, or its folder, and `lora_scale` its weight, 1 = as trained; `resolution` is the side
    of the pictures in pixels, by default what the UNet was trained on. Raises BadModel and
    MissingExtra as `checkpoints.ready` does, ValueError for a resolution the decoder cannot make
    and for a lora_scale that is not finite or has no LoRA to weigh.
    """
    pipe = ready(source, device, lora, lora_scale, unet=unet)
    return StableDiffusion(pipe, resolution)


class StableDiffusion:
    """A loaded Stable Diffusion 1 or 2: prompts in, denoisers out, latents to pictures."""

    def __init__(self, pipe: Any, resolution: int | None = None) -> None:
        """Wrap a diffusers StableDiffusionPipeline; its modules are shared, not copied.

        Pictures are `resolution` pixels wide and high, by default what the UNet was trained on.
        """
        self.pipe = pipe
        config = pipe.scheduler.config
        self.prediction_type = str(config.prediction_type)
        if self.prediction_type not in ("epsilon", "v_prediction"):
            raise BadModel(
                f"the model predicts {self.prediction_type!r}; epsilon and v_prediction are known"
            )
        self.schedule = NoiseSchedule(pipe.scheduler.alphas_cumprod.double().cpu())
        factor = int(pipe.vae_scale_factor)
        own = pipe.unet.config.sample_size
        side = own if resolution is None else whole(resolution, factor) // factor
        self.latent_shape = (int(pipe.unet.config.in_channels), int(side), int(side))
        self.max_tokens = int(pipe.tokenizer.model_max_length)

    @property
    def resolution(self) -> tuple[int, int]:
        """Width and height of its pictures in pixels."""
        factor = int(self.pipe.vae_scale_factor)
        return self.latent_shape[2] * factor, self.latent_shape[1] * factor

    @property
    def name(self) -> str:
        """The last part of the folder or Hub id it was loaded from; empty if it was built."""
        return Path(self.pipe.name_or_path or "").name

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return torch.device(self.pipe.unet.device)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the weights of UNet, text encoder and autoencoder, and a LoRA's with scale.

        Inside `without_lora` it is that of the model that was loaded without one.
        """
        return fingerprint([self.pipe.unet, self.pipe.text_encoder, self.pipe.vae])

    @property
    def sampler(self) -> str:
        """Our solver, what the network predicts, and a hash of what sets levels and latents."""
        scale = {"latents": self.pipe.vae.config.scaling_factor}
        return f"{OURS}, {self.prediction_type}, {settings(self.pipe.scheduler.config, scale)}"

    @property
    def precision(self) -> str:
        """Of its weights, such as float32."""
        return precision(self.pipe.unet)

    @contextmanager
    def without_lora(self) -> Iterator["StableDiffusion"]:
        """The model that the LoRA was put on, inside the block: the same to the bit.

        For controls: `with model.without_lora() as base`. Weights are shared, so nothing of this
        model may run beside the block, and what is made inside of it, prompt embeddings as much as
        denoisers, is to be used inside. A model without a LoRA stays as it is.
        """
        with adapter.detached(self.pipe):
            yield self

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
        # Where the embeddings are, not where the network rests: offloading keeps it elsewhere.
        return hidden, mask.sum(1).to(hidden.device)

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
        """Clean latents (B, *latent_shape) to pictures (B, H, W, 3) RGB.

        Raises Overflow where they hold numbers that are not finite.
        """
        image = self.pictures(latents)
        return pixels((image / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy())

    @torch.no_grad()
    def reconstruct(self, images: NDArray[np.uint8], batch: int = 16) -> NDArray[np.uint8]:
        """Pictures (B, H, W, 3) RGB as the autoencoder leaves them, of the model's resolution."""
        vae, (wide, high) = self.pipe.vae, self.resolution
        parts = []
        for first in range(0, len(images), batch):
            x = torch.from_numpy(images[first : first + batch]).permute(0, 3, 1, 2).float()
            x = torch.nn.functional.interpolate(x, (high, wide), mode="bilinear", antialias=True)
            given = (x / 127.5 - 1).to(device=self.device, dtype=vae.dtype)
            latents = vae.encode(given).latent_dist.mode()
            parts.append(self.decode(latents * vae.config.scaling_factor))
        return np.concatenate(parts)
