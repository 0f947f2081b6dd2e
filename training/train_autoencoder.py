"""Stage 1: the autoencoder, 64x64 RGB to an 8x8 latent and back.

The latent is fixed in closed form first: the principal components of 8x8 patches, each channel
divided by the square root of its standard deviation. The diffusion model can then train at once,
while the decoder learns to invert it and the encoder to reproduce it.
"""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from common import (
    WORK,
    Log,
    MovingAverage,
    average_gradients,
    launch,
    learning_rate,
    load_checkpoint,
    save_checkpoint,
)
from sidestep.models.embedded import pictures

RECIPE = tomllib.loads((Path(__file__).parent / "recipe.toml").read_text())
FOLDER = WORK / "autoencoder"


def build() -> AutoencoderKL:
    """An f=8 AutoencoderKL without attention."""
    o = RECIPE["autoencoder"]
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=tuple(o["block_out_channels"]),
        layers_per_block=o["layers_per_block"],
        latent_channels=o["latent_channels"],
        norm_num_groups=o["norm_num_groups"],
        sample_size=64,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )


def patches(images: Tensor) -> Tensor:
    """(N, 3, 64, 64) to (N * 64, 192): its 8x8 patches as rows."""
    return (
        images.unflatten(2, (8, 8)).unflatten(4, (8, 8)).permute(0, 2, 4, 1, 3, 5).reshape(-1, 192)
    )


def fit_basis(images: Tensor, channels: int) -> dict[str, Tensor]:
    """Mean (192,) and matrix (192, channels) that turn patches into latents of unit variance."""
    rows = patches(images)
    mean = rows.mean(0)
    variance, vectors = torch.linalg.eigh(torch.cov((rows - mean).T))
    matrix = vectors.flip(1)[:, :channels] / variance.flip(0)[:channels].sqrt().sqrt()
    return {"mean": mean, "matrix": (matrix / ((rows - mean) @ matrix).std()).contiguous()}


def to_latents(images: Tensor, basis: dict[str, Tensor]) -> Tensor:
    """Latents (N, channels, 8, 8) of images in -1..1."""
    flat = (patches(images) - basis["mean"]) @ basis["matrix"]
    return flat.view(len(images), 8, 8, -1).permute(0, 3, 1, 2).contiguous()


def training_images() -> Tensor:
    """Every training picture in -1..1, targets first, (N, 3, 64, 64)."""
    rows = np.stack([p.pixels for p in pictures.training_pictures()])
    return torch.from_numpy(rows).permute(0, 3, 1, 2).float() / 127.5 - 1


def prepare() -> None:
    """Fix the basis, once, and the latents of the training set."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    basis, latents = FOLDER / "basis.safetensors", FOLDER / "latents.safetensors"
    if not basis.is_file():
        save_file(fit_basis(training_images(), RECIPE["autoencoder"]["latent_channels"]), basis)
    if not latents.is_file():
        save_file({"latents": to_latents(training_images(), load_file(basis))}, latents)


def reconstruction_loss(output: Tensor, image: Tensor) -> Tensor:
    """L1 on pixels and on the differences of neighbours, plus the mean square PSNR measures."""
    loss = functional.l1_loss(output, image) + 2 * functional.mse_loss(output, image)
    for dim in (2, 3):
        loss = loss + functional.l1_loss(output.diff(dim=dim), image.diff(dim=dim))
    return loss


def worker(rank: int, world: int) -> None:
    """Train one process's share of every batch."""
    o: dict[str, Any] = RECIPE["autoencoder"]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(RECIPE["seed"])
    images, targets = training_images(), len(pictures.targets())
    latents = load_file(FOLDER / "latents.safetensors")["latents"]
    model = build().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=1e-4)
    ema = MovingAverage([model], o["ema"])
    start = load_checkpoint(FOLDER, {"model": model}, ema, optimizer)
    log = Log(FOLDER / "log.jsonl")
    total, count = o["steps"], o["batch"] // world
    for step in range(start, total):
        g = torch.Generator().manual_seed(RECIPE["seed"] * 10**7 + step * world + rank)
        pick = torch.where(
            torch.rand(count, generator=g) < o["target_share"],
            torch.randint(targets, (count,), generator=g),
            torch.randint(targets, len(images), (count,), generator=g),
        )
        image = images[pick].to(device, memory_format=torch.channels_last)
        latent = latents[pick].to(device, memory_format=torch.channels_last)
        # Sampling ends near a latent, not on it; the decoder learns to forgive that.
        noisy = latent + o["latent_noise"] * torch.randn(latent.shape, generator=g).to(device)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, total, o["learning_rate"])
        train_encoder = step % o["encoder_every"] == 0
        with torch.autocast(device, torch.bfloat16):
            output = model.decode(noisy).sample
            encoded = model.encode(image).latent_dist.mean if train_encoder else None
        loss = reconstruction_loss(output.float(), image)
        if encoded is not None:
            loss = loss + functional.mse_loss(encoded.float(), latent)
        optimizer.zero_grad(set_to_none=not train_encoder)
        loss.backward()
        average_gradients([model], world)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        ema.update(step)
        if rank == 0 and (step % 50 == 0 or step == total - 1):
            error = (output.float() - image).square().mean()
            log.write(step=step, loss=loss.item(), psnr=(10 * torch.log10(4 / error)).item())
        if rank == 0 and ((step + 1) % 100 == 0 or step == total - 1):
            save_checkpoint(FOLDER, step + 1, {"model": model}, ema, optimizer)
    if rank == 0:
        ema.swap()
        finish(model, images, latents, targets, log)


@torch.no_grad()
def finish(model: AutoencoderKL, images: Tensor, latents: Tensor, targets: int, log: Log) -> None:
    """Measure both halves and save the folder."""
    model.eval()
    device = next(model.parameters()).device
    psnr, encoding = [], []
    for image, latent in zip(images[:1030].split(103), latents[:1030].split(103), strict=True):
        output = model.decode(latent.to(device)).sample.clamp(-1, 1).cpu()
        psnr.append(10 * torch.log10(4 / (output - image).square().mean((1, 2, 3))))
        encoded = model.encode(image.to(device)).latent_dist.mean.cpu()
        encoding.append((encoded - latent).square().mean((1, 2, 3)))
    all_psnr = torch.cat(psnr)
    log.write(
        psnr_targets=all_psnr[:targets].mean().item(),
        psnr_target_worst=all_psnr[:targets].min().item(),
        psnr_background=all_psnr[targets:].mean().item(),
        encoder_mse=torch.cat(encoding).mean().item(),
    )
    model.save_pretrained(FOLDER / "vae")


if __name__ == "__main__":
    prepare()
    launch(worker)
