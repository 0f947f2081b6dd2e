"""FID and KID: how far a set of pictures lies from real ones, in features of Inception.

The network is the TensorFlow one of 2015, as the TorchScript file that StyleGAN2-ADA published and
clean-fid uses; pictures are resized as clean-fid does. It needs no torchvision. The Fréchet
distance is torchmetrics'; the kernel distance is `kid.kernel_distance` over all pairs, which is
what the usual mean over subsets estimates, without its noise.

Sources: Heusel et al., NeurIPS 2017 (FID); Binkowski et al., ICLR 2018 (KID); Parmar et al., On
Aliased Resizing and Surprising Subtleties in GAN Evaluation, CVPR 2022 (resizing).
"""

import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from sidestep.errors import MissingExtra, SidestepWarning
from sidestep.similarity.base import Images, Vectors, check_images
from sidestep.similarity.kid import kernel_distance
from sidestep.similarity.published import Published, checked
from sidestep.similarity.sscd_published import load_script

WEIGHTS = Published(
    "inception-2015-12-05.pt",
    "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
    "the metrics folder of NVIDIA's stylegan2-ada-pytorch",
)
SIDE, WIDTH = 299, 2048
ENOUGH = 10_000  # pictures below which published FID values do not compare
INSTALL = "pip install 'sidestep[metrics]'"


class Inception:
    """The features behind FID and KID.

    Attributes:
        name: `inception-2015-clean`, network and resizing.
        fingerprint: SHA-256 of the weights.
    """

    name = "inception-2015-clean"

    def __init__(
        self, path: Path | str, *, device: torch.device | str = "cpu", batch: int = 32
    ) -> None:
        """Load the weights from a local file; BadModel if it is missing or another one."""
        path, self.fingerprint = checked(path, WEIGHTS)
        self.device, self.batch = torch.device(device), batch
        # The layers alone: the whole network would resize by itself, without antialiasing.
        self._layers = load_script(path, self.device).layers

    @torch.inference_mode()
    def features(self, images: Images) -> Vectors:
        """Pictures (N, H, W, 3), uint8 RGB, to float32 rows (N, 2048)."""
        check_images(images)
        result = np.empty((len(images), WIDTH), dtype=np.float32)
        for first in range(0, len(images), self.batch):
            rows = slice(first, first + self.batch)
            pixels = torch.from_numpy(clean(images[rows])).to(self.device)
            found = self._layers((pixels - 128) / 128)
            result[rows] = found.reshape(len(pixels), WIDTH).float().cpu().numpy()
        return result


def clean(images: Images) -> NDArray[np.float32]:
    """Pictures (N, H, W, 3) to (N, 3, 299, 299) in 0..255: bicubic, antialiased, not rounded."""
    result = np.empty((len(images), 3, SIDE, SIDE), dtype=np.float32)
    for row, image in zip(result, images, strict=True):
        for channel in range(3):
            # A channel of floats keeps what rounding to 8 bits would lose.
            plane = Image.fromarray(image[..., channel].astype(np.float32))
            row[channel] = np.asarray(plane.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return result.clip(0, 255)


def fid(generated: Vectors, real: Vectors) -> float:
    """Fréchet distance of two sets of Inception features (N, D) and (M, D); lower = closer.

    Biased upwards for few pictures: with 500 the bias is most of the value, and below 10,000 of
    either a SidestepWarning says so. Report `kid` there.

    Raises:
        MissingExtra: torchmetrics is not installed.
        ValueError: a set has fewer than two rows, rows differ in length or are not finite.
    """
    _check(generated, real)
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance
    except ImportError as error:
        raise MissingExtra("torchmetrics", f"Install with: {INSTALL}", "FID") from error
    if (fewest := min(len(generated), len(real))) < ENOUGH:
        warnings.warn(
            f"FID of {fewest} pictures is mostly the bias of a small sample and compares with no "
            f"published value; report KID, or use at least {ENOUGH}",
            SidestepWarning,
            stacklevel=2,
        )
    distance = FrechetInceptionDistance(feature=_Given(generated.shape[1]))
    distance.update(torch.from_numpy(real.astype(np.float64)), real=True)
    distance.update(torch.from_numpy(generated.astype(np.float64)), real=False)
    return float(distance.compute())


def kid(generated: Vectors, real: Vectors) -> float:
    """Kernel distance of two sets of Inception features, unbiased whatever their sizes.

    Around 0 for equal sources, and then below 0 as often as above. Papers often print it times
    1000. ValueError as `fid`.
    """
    return kernel_distance(generated, real)


class _Given(torch.nn.Module):
    """Features that are there already, in the place of a network."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


def _check(generated: Vectors, real: Vectors) -> None:
    shapes = generated.shape, real.shape
    if any(len(s) != 2 for s in shapes) or shapes[0][1] != shapes[1][1] or len(real) < 2:
        raise ValueError(f"features came as {shapes[0]} and {shapes[1]}; both must be rows (N, D)")
    if len(generated) < 2:
        raise ValueError(f"features came as {shapes[0]}; a covariance needs two or more rows")
    if not (np.isfinite(generated).all() and np.isfinite(real).all()):
        raise ValueError("a feature is not finite; compute the features again.")
