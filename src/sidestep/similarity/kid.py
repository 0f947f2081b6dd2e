"""Kernel distance between two sets of pictures, on the features of `agreement.py`.

The unbiased squared MMD with the kernel k(x, y) = (x . y / D + 1)^3, as in the Kernel Inception
Distance (Binkowski et al., Demystifying MMD GANs, ICLR 2018), but on other features: its numbers
compare with each other only, not with published ones.
"""

import numpy as np
from numpy.typing import NDArray

from sidestep.similarity.base import Vectors


def kernel_distance(first: Vectors, second: Vectors, chunk: int = 2048) -> float:
    """Squared MMD of two sets of features (N, D) and (M, D); 0 on average for equal sources.

    Unbiased whatever N and M, so for close sets it can fall below 0. Memory is about
    8 chunk (N + M) bytes.

    Raises ValueError unless both sets have two or more finite rows of the same length.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(
            f"features came as {a.shape} and {b.shape}; the kernel distance needs two or more rows "
            "of the same length in each set."
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("a feature is not finite; compute the features again.")
    within = _total(a, a, chunk) - _kernel((a * a).sum(1), a.shape[1]).sum()
    other = _total(b, b, chunk) - _kernel((b * b).sum(1), b.shape[1]).sum()
    n, m = len(a), len(b)
    between = _total(a, b, chunk) / (n * m)
    return float(within / (n * (n - 1)) + other / (m * (m - 1)) - 2 * between)


def _kernel(products: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    return (products / width + 1) ** 3


def _total(a: NDArray[np.float64], b: NDArray[np.float64], chunk: int) -> float:
    """The sum of the kernel over every pair."""
    width = a.shape[1]
    return sum(float(_kernel(a[i : i + chunk] @ b.T, width).sum()) for i in range(0, len(a), chunk))
