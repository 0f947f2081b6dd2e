"""Numbers of the draws of one prompt."""

import numpy as np
from numpy.typing import NDArray

from sidestep.similarity.base import Vectors


def spread(embeddings: Vectors) -> NDArray[np.float64]:
    """How far each draw of a prompt lies from the prompt's other draws.

    Args:
        embeddings: unit rows (M, D) of the M draws of one prompt.

    Returns:
        (M,) mean of 1 - similarity to the other M - 1 draws, in [0, 2]; 0 = all draws are the
        same. NaN for a single draw, which has no others.
    """
    rows = np.asarray(embeddings, dtype=np.float64)
    if rows.ndim != 2:
        raise ValueError(f"embeddings came as {rows.shape}; they must be rows (M, D) of one prompt")
    others = len(rows) - 1
    if others < 1:
        return np.full(len(rows), np.nan)
    apart = 1 - rows @ rows.T
    np.fill_diagonal(apart, 0)
    result: NDArray[np.float64] = apart.sum(axis=1) / others
    return result
