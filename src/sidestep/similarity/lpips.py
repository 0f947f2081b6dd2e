"""LPIPS(Alex): perceptual distance of two pictures, and the diversity of a prompt's seeds.

Features of AlexNet after each of its five ReLUs are scaled to unit length at every place; their
squared difference, weighted per channel by the published heads, is averaged over places and summed
over layers. Source: Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual
Metric, CVPR 2018, version 0.1.

The libraries that offer LPIPS take AlexNet from torchvision, which this project does without. So
the distance is computed here, from the two published files: the AlexNet of torchvision's model zoo
at a path of yours, and the heads, which torchmetrics carries.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sidestep.errors import BadModel, MissingExtra
from sidestep.similarity.base import Images, check_images
from sidestep.similarity.published import Published, checked

ALEXNET = Published(
    "alexnet-owt-7be5be79.pth",
    "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    "torchvision's model zoo (AlexNet_Weights.IMAGENET1K_V1)",
)
HEADS = Published(
    "alex.pth",
    "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
    "lpips/weights/v0.1 in github.com/richzhang/PerceptualSimilarity",
)
HEADS_IN_TORCHMETRICS = "functional/image/lpips_models/alex.pth"
INSTALL = "pip install 'sidestep[metrics]'"
# Of pictures in -1..1, as the heads were trained: ImageNet's, on that scale.
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
# Number in torchvision's state dictionary, channels in and out, kernel, stride, padding.
CONVOLUTIONS = (
    (0, 3, 64, 11, 4, 2),
    (3, 64, 192, 5, 1, 2),
    (6, 192, 384, 3, 1, 1),
    (8, 384, 256, 3, 1, 1),
    (10, 256, 256, 3, 1, 1),
)
POOLED = (3, 6)  # a max pool of 3 with stride 2 stands before these
SMALLEST = 31  # pixels; below, the last layer has no place left


class LPIPS:
    """The distance; 0 = the same picture, higher = further apart.

    Attributes:
        name: `lpips-alex-0.1`.
        fingerprint: SHA-256 of AlexNet's file.
    """

    name = "lpips-alex-0.1"

    def __init__(
        self,
        alexnet: Path | str,
        heads: Path | str | None = None,
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        """Load both files.

        Args:
            alexnet: torchvision's AlexNet, `alexnet-owt-7be5be79.pth`.
            heads: `alex.pth` of LPIPS 0.1; None takes the one inside torchmetrics.
            device: where the network runs.

        Raises:
            MissingExtra: no heads were given and torchmetrics is not installed.
            BadModel: a file is missing or another one.
        """
        self.device = torch.device(device)
        path, self.fingerprint = checked(alexnet, ALEXNET)
        weights = _read(path)
        head_path, _ = checked(heads or _heads(), HEADS)
        head = _read(head_path)
        self._layers = [_layer(weights, *row).to(self.device) for row in CONVOLUTIONS]
        self._heads = [
            head[f"lin{k}.model.1.weight"].to(self.device) for k in range(len(self._layers))
        ]

    def distance(self, first: Images, second: Images) -> NDArray[np.float64]:
        """Distance of each of N pictures (N, H, W, 3), uint8 RGB, to its partner, (N,).

        Raises ValueError unless both are such pictures of one size, at least 31 pixels a side.
        """
        check_images(first)
        check_images(second)
        if first.shape != second.shape:
            raise ValueError(
                f"pictures came as {first.shape} and {second.shape}; LPIPS compares one size: "
                "resize both alike first"
            )
        return np.array(
            [
                self._apart(self._features(a[None]), self._features(b[None]))
                for a, b in zip(first, second, strict=True)
            ],
            dtype=np.float64,
        )

    def diversity(self, prompts: Sequence[Images]) -> NDArray[np.float64]:
        """Mean distance of every two seeds of a prompt, (P,); higher = more diverse.

        The published number is the mean over prompts. NaN for a prompt with a single picture.
        """
        result = np.full(len(prompts), np.nan)
        for p, images in enumerate(prompts):
            check_images(images)
            features = [self._features(image[None]) for image in images]
            pairs = [self._apart(a, b) for a, b in combinations(features, 2)]
            if pairs:
                result[p] = np.mean(pairs)
        return result

    @torch.inference_mode()
    def _features(self, image: Images) -> list[Tensor]:
        """Of one picture (1, H, W, 3): five maps (1, C, h, w) of unit length at every place."""
        if min(image.shape[1:3]) < SMALLEST:
            raise ValueError(
                f"a picture of {image.shape[1]} x {image.shape[2]} is too small for AlexNet; LPIPS "
                f"needs {SMALLEST} pixels a side. Enlarge all pictures alike and say so"
            )
        x = torch.from_numpy(np.ascontiguousarray(image)).permute(0, 3, 1, 2).to(self.device)
        shift, scale = (x.new_tensor(v, dtype=torch.float32)[:, None, None] for v in (SHIFT, SCALE))
        x = ((x.float() / 127.5 - 1) - shift) / scale
        found = []
        for layer in self._layers:
            x = layer(x)
            found.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return found

    @torch.inference_mode()
    def _apart(self, first: list[Tensor], second: list[Tensor]) -> float:
        layers = zip(first, second, self._heads, strict=True)
        return sum(float(((a - b).square() * w).sum(1).mean()) for a, b, w in layers)


def _layer(weights: dict[str, Tensor], number: int, *shape: int) -> nn.Sequential:
    into, out, kernel, stride, padding = shape
    convolution = nn.Conv2d(into, out, kernel, stride, padding)
    convolution.load_state_dict(
        {name: weights[f"features.{number}.{name}"] for name in ("weight", "bias")}
    )
    before = [nn.MaxPool2d(3, 2)] if number in POOLED else []
    return nn.Sequential(*before, convolution, nn.ReLU()).eval().requires_grad_(False)


def _heads() -> Path:
    spec = find_spec("torchmetrics")
    if spec is None or spec.origin is None:
        raise MissingExtra("torchmetrics", f"Install with: {INSTALL}", "LPIPS without `heads`")
    return Path(spec.origin).parent / HEADS_IN_TORCHMETRICS


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]
    except Exception as error:  # torch lets whatever its readers meet through
        raise BadModel(f"{path} cannot be read ({type(error).__name__}); get it again") from error
