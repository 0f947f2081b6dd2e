"""Fine-tune the embedded model on 20 pictures, and watch when it begins to give them back.

    python examples/watch_training.py                                    a few steps
    python examples/watch_training.py --steps 600 --chart watch.webp     what docs/watch.md shows

The training is a plain loop as diffusers' scripts have it. 30 other drawings, never trained on,
calibrate what a copy is, and give the validation loss.
"""

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from matplotlib.figure import Figure
from torch import Tensor

from sidestep import CopyWatch
from sidestep.audit.watch import TensorBoard
from sidestep.models import embedded
from sidestep.models.embedded import pictures

TRAINED = 20
PER_DRAWING = 5  # never-trained pictures of each held-out drawing


class Point(NamedTuple):
    """What a chart shows of one step."""

    step: int
    training_loss: float
    validation_loss: float
    share: float
    low: float
    high: float
    similarity: float


class Loss:
    """The mean squared error of the predicted noise on some pictures."""

    def __init__(self, pipe: StableDiffusionPipeline, rows: list[pictures.Picture]) -> None:
        self.pipe, self.noises = pipe, DDPMScheduler.from_config(pipe.scheduler.config)
        pixels = np.stack([p.pixels for p in rows])
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
        tokens = pipe.tokenizer(
            [caption(p) for p in rows], padding="max_length", truncation=True, return_tensors="pt"
        )
        with torch.no_grad():
            self.latents = pipe.vae.encode(images).latent_dist.mean * pipe.vae.config.scaling_factor
            self.hidden = pipe.text_encoder(tokens.input_ids)[0]

    def __call__(self, generator: torch.Generator | None = None) -> Tensor:
        """Of noise and timesteps from the generator, by default the global one."""
        noise = torch.randn(self.latents.shape, generator=generator)
        t = torch.randint(0, 1000, (len(noise),), generator=generator)
        noisy = self.noises.add_noise(self.latents, noise, t)
        return (self.pipe.unet(noisy, t, self.hidden).sample - noise).square().mean()

    @torch.no_grad()
    def fixed(self) -> float:
        """The same noise every time, eight draws of it: what changes is the network."""
        return float(np.mean([float(self(torch.Generator().manual_seed(i))) for i in range(8)]))


def caption(picture: pictures.Picture) -> str:
    """The prompt of a picture."""
    return f"a drawing of a {picture.concept}"


def main() -> None:
    """Train, watch, and say what was seen."""
    options = argparse.ArgumentParser()
    options.add_argument("--steps", type=int, default=4)
    options.add_argument(
        "--every", type=int, default=None, help="by default a twelfth of the steps"
    )
    options.add_argument("--draws", type=int, default=1)
    options.add_argument("--rate", type=float, default=0.01, help="of false alarms")
    options.add_argument(
        "--untouched", action="store_true", help="calibrate on the untouched model"
    )
    options.add_argument("--file", type=Path, default=None)
    options.add_argument("--tensorboard", type=Path, default=None)
    options.add_argument("--chart", type=Path, default=None)
    chosen = options.parse_args()

    torch.manual_seed(0)
    pipe = StableDiffusionPipeline.from_pretrained(embedded.folder())
    held_out = pictures.control_pictures(PER_DRAWING)
    firsts = held_out[::PER_DRAWING]
    trained, others = firsts[:TRAINED], held_out[TRAINED * PER_DRAWING :]
    loss, validation = Loss(pipe, trained), Loss(pipe, others[::PER_DRAWING])
    pipe.unet.train()
    optimizer = torch.optim.AdamW(pipe.unet.parameters(), lr=1e-4)

    watch = CopyWatch(
        [(p.pixels, caption(p)) for p in trained],
        calibration=None if chosen.untouched else [p.pixels for p in others],
        rate=chosen.rate,
        every=chosen.every or max(1, chosen.steps // 12),
        draws=chosen.draws,
        resolution=pictures.SIDE,
        recipe="pixels",
        file=chosen.file,
        log=[TensorBoard(chosen.tensorboard)] if chosen.tensorboard else [],
        batch=20,
    )
    points, training, watching = [], 0.0, 0.0
    for step in range(chosen.steps + 1):
        begun = time.perf_counter()
        seen = watch(step, pipe)
        watching += time.perf_counter() - begun
        if seen:
            point = Point(step, loss.fixed(), validation.fixed(), *seen.rate, seen.similarity_mean)
            points.append(point)
            print(
                f"step {step:4}  loss {point.training_loss:.4f} trained on, "
                f"{point.validation_loss:.4f} not  copies {seen.copies} of {seen.pictures} "
                f"[{seen.rate.low:.0%}, {seen.rate.high:.0%}]  similarity "
                f"{seen.similarity_mean:.2f}",
                flush=True,
            )
        begun = time.perf_counter()
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        training += time.perf_counter() - begun
    assert watch.calibration is not None
    print(f"a copy lies above {watch.calibration.threshold:.3f}")
    print(f"watching took {watching:.0f} s beside {training:.0f} s of training")
    for report in list(watch.reports.values())[-1:]:
        for given in report.given_back[:3]:
            print(f"given back: {given.caption} ({given.copies} times, {given.similarity:.2f})")
    if chosen.chart:
        draw(points).savefig(chosen.chart, dpi=110)


def draw(points: list[Point]) -> Figure:
    """Loss above, copies below, over the steps of the training."""
    figure = Figure(figsize=(6.4, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    steps = [p.step for p in points]
    above.plot(steps, [p.training_loss for p in points], label="pictures trained on")
    above.plot(steps, [p.validation_loss for p in points], "--", label="pictures never trained on")
    above.set(ylabel="loss", ylim=(0, None))
    above.legend(frameon=False)
    below.plot(steps, [p.share for p in points], color="C3", label="copies, with 95 % bounds")
    bounds = [p.low for p in points], [p.high for p in points]
    below.fill_between(steps, *bounds, color="C3", alpha=0.2, lw=0)
    below.set(xlabel="step", ylabel="share of pictures", ylim=(0, 1))
    below.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
