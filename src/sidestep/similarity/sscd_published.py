"""SSCD as each paper used it: the authors' TorchScript weights behind named preprocessing.

Source: Pizzi et al., A Self-Supervised Descriptor for Image Copy Detection, CVPR 2022; the files
lie beside github.com/facebookresearch/sscd-copy-detection (MIT). The same weights give other
numbers under another preset, so both stand in the recipe's name.
"""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from sidestep.errors import BadModel
from sidestep.similarity.base import Images, Vectors, check_images
from sidestep.similarity.preprocess import HALF, IMAGENET, Preprocessing
from sidestep.similarity.published import Published, checked


class Weights(NamedTuple):
    """A published SSCD network."""

    published: Published
    width: int  # numbers of a descriptor


SOURCE = "the list of models in github.com/facebookresearch/sscd-copy-detection"
WEIGHTS = {
    # ResNet-50, the authors' default.
    "disc_mixup": Weights(
        Published(
            "sscd_disc_mixup.torchscript.pt",
            "9f26bd4c848cc19b73d2ae92eea6e04886f61a7b764ceb7a13aeee62e6a6db56",
            SOURCE,
        ),
        512,
    ),
    # ResNeXt-101, what most papers on memorization use.
    "disc_large": Weights(Published("sscd_disc_large.torchscript.pt", None, SOURCE), 1024),
}
PRESETS = {
    # The two that the authors recommend.
    "official": Preprocessing(288, "short-edge", None, *IMAGENET),
    "official-320": Preprocessing(320, "squash", None, *IMAGENET),
    # Mean and deviation are not those of SSCD's training, but published numbers rest on them.
    "dcr": Preprocessing(256, "short-edge", 224, *HALF),
    "membench": Preprocessing(288, "squash", None, *IMAGENET),
}
# Weights and preset behind the published numbers.
PAPERS = {
    "dcr": ("disc_mixup", "dcr"),  # Somepalli et al., CVPR and NeurIPS 2023
    "wen": ("disc_large", "dcr"),  # Wen et al., ICLR 2024; GUARD, Zhao et al. 2026, took it over
    "bright-ending": ("disc_large", "dcr"),  # Chen et al., and their PRSS
    "sail": ("disc_large", "dcr"),  # Jeon et al., 2025
    "anisotropy": ("disc_large", "dcr"),  # Asthana and Belagiannis
    "nemo": ("disc_mixup", "official-320"),  # Hintersdorf et al., NeurIPS 2024
    "han": ("disc_mixup", "official-320"),  # Han et al., 2025
    "membench": ("disc_large", "membench"),  # Hong et al.
    "clip-embeddings": ("disc_large", "official-320"),  # the CLIP padding fix
}


class PublishedSSCD:
    """SSCD with published weights and a published preset, as a recipe.

    Attributes:
        name: weights and preset, such as `sscd-disc-large-dcr`; similarities of different names
            never compare.
        fingerprint: SHA-256 of the weights.
    """

    def __init__(
        self,
        path: Path | str,
        weights: str = "disc_mixup",
        preset: str = "official",
        *,
        sha256: str | None = None,
        device: torch.device | str = "cpu",
        batch: int = 32,
    ) -> None:
        """Load the weights.

        Args:
            path: the TorchScript file.
            weights: `disc_mixup` or `disc_large`: which one the file is.
            preset: `official`, `official-320`, `dcr` or `membench`. PAPERS says which weights and
                preset stand behind whose numbers.
            sha256: the hash that the file must have. Nobody publishes one of `disc_large`; the
                first use says it.
            device: where the network runs.
            batch: pictures per run; bounds memory.

        Raises:
            ValueError: a name is unknown or batch is below 1.
            BadModel: the file is missing, another one, or no TorchScript.
        """
        if weights not in WEIGHTS or preset not in PRESETS or batch < 1:
            raise ValueError(
                f"SSCD came with weights {weights!r}, preset {preset!r} and batch {batch}; weights "
                f"are {', '.join(WEIGHTS)}, presets {', '.join(PRESETS)}, batch is at least 1."
            )
        published, self.width = WEIGHTS[weights]
        path, self.fingerprint = checked(path, published, sha256)
        self._path, self._given = path, (weights, preset)
        self.name = f"sscd-{weights.replace('_', '-')}-{preset}"
        self.preprocessing, self.batch, self.device = PRESETS[preset], batch, torch.device(device)
        self._network = load_script(path, self.device)

    def __reduce__(self) -> Any:
        """Sent to another process it loads the file there, which must see the same under the path.

        A GPU goes by its kind: which ones there are is another question on each machine.
        """
        again = partial(
            PublishedSSCD, sha256=self.fingerprint, device=self.device.type, batch=self.batch
        )
        return again, (self._path.absolute(), *self._given)

    @torch.inference_mode()
    def embed(self, images: Images) -> Vectors:
        """Pictures (N, H, W, 3), uint8 RGB, to float32 rows (N, D) of length 1.

        Pictures of different sizes are embedded in calls of their own.
        """
        check_images(images)
        result = np.empty((len(images), self.width), dtype=np.float32)
        for first in range(0, len(images), self.batch):
            rows = slice(first, first + self.batch)
            pixels = torch.from_numpy(self.preprocessing.apply(images[rows])).to(self.device)
            found = torch.nn.functional.normalize(self._network(pixels).float(), dim=1)
            if found.shape != (len(pixels), self.width):
                raise BadModel(
                    f"{self.name} gave descriptors {tuple(found.shape)}, expected "
                    f"({len(pixels)}, {self.width}); the file holds another network"
                )
            result[rows] = found.cpu().numpy()
        return result


def load_script(path: Path, device: torch.device) -> torch.jit.ScriptModule:
    """A TorchScript file, ready to run; BadModel if it is none."""
    try:
        network = torch.jit.load(str(path), map_location=device)  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise BadModel(
            f"{path} cannot be read as TorchScript ({str(error).splitlines()[0]}); get it again"
        ) from error
    return network.eval()  # type: ignore[no-any-return]
