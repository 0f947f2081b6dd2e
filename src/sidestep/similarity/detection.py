"""How well a score tells memorized prompts from ordinary ones: AUC, and TPR at a low FPR.

"TPR at 1 % FPR" has three definitions in published scripts: the last point of the ROC curve whose
FPR is below 1 % (Wen et al.), at most 1 % (others), and the point nearest to 1 %, which may lie
above it (Ren et al., Jeon et al., Asthana and Belagiannis). Here it is the highest TPR of all
thresholds whose FPR is at most the limit. No label is ever flipped: an AUC below 0.5 is a detector
whose sign is wrong, and shows.
"""

from collections.abc import Callable
from fractions import Fraction
from math import floor
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import bootstrap, rankdata

from sidestep.similarity.intervals import check_confidence

Scores = NDArray[np.float64]


class OperatingPoint(NamedTuple):
    """A threshold and what it does; a score strictly above it counts as memorized."""

    tpr: float  # share of memorized prompts found, [0, 1]
    fpr: float  # share of ordinary prompts taken for memorized, [0, 1]
    threshold: float


def auc(memorized: ArrayLike, ordinary: ArrayLike) -> float:
    """Probability that a memorized prompt scores above an ordinary one, ties counting half.

    Args:
        memorized: (n,) one score per memorized prompt, higher = more memorized.
        ordinary: (m,) one score per ordinary prompt.

    Returns:
        Area under the ROC curve in [0, 1]; 0.5 = chance.

    Raises:
        ValueError: a group is empty or a score not finite.
    """
    ours, others = _check(memorized, ordinary)
    # Mann-Whitney: the ranks of the memorized ones, less what they are among themselves.
    ranks = rankdata(np.concatenate([ours, others]))[: len(ours)].sum()
    return float((ranks - len(ours) * (len(ours) + 1) / 2) / (len(ours) * len(others)))


def tpr_at_fpr(memorized: ArrayLike, ordinary: ArrayLike, limit: float = 0.01) -> OperatingPoint:
    """The highest TPR that any threshold reaches with an FPR of at most `limit`.

    With m ordinary prompts floor(limit m) of them may pass; with fewer than 1 / limit none may.
    Arguments and errors are those of `auc`; also ValueError unless 0 <= limit < 1.
    """
    ours, others = _check(memorized, ordinary)
    _check_limit(limit)
    return _best(ours, others, limit)


def auc_interval(
    memorized: ArrayLike,
    ordinary: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> tuple[float, float]:
    """Bootstrap bounds (low, high) of the AUC; both groups of prompts are drawn anew.

    Bounds are percentiles of the draws. One score per prompt: average the seeds of a prompt first.
    """
    ours, others = _check(memorized, ordinary)
    return _interval(auc, ours, others, confidence, resamples, seed)


def tpr_interval(
    memorized: ArrayLike,
    ordinary: ArrayLike,
    limit: float = 0.01,
    *,
    confidence: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> tuple[float, float]:
    """Bootstrap bounds (low, high) of the TPR at that FPR; the threshold is found in every draw.

    With 500 ordinary prompts and 1 % five scores decide, so the bounds are several points apart.
    """
    ours, others = _check(memorized, ordinary)
    _check_limit(limit)
    return _interval(lambda a, b: _best(a, b, limit).tpr, ours, others, confidence, resamples, seed)


def _best(ours: Scores, others: Scores, limit: float) -> OperatingPoint:
    # The decimal as typed: 100 * 0.29 is below 29 in floating point.
    allowed = floor(len(others) * Fraction(str(float(limit))))
    # At this score one more than allowed would be reached; strictly above it none too many is.
    threshold = np.partition(others, len(others) - 1 - allowed)[len(others) - 1 - allowed]
    return OperatingPoint(
        float((ours > threshold).mean()), float((others > threshold).mean()), float(threshold)
    )


def _interval(
    statistic: Callable[[Scores, Scores], float],
    ours: Scores,
    others: Scores,
    confidence: float,
    resamples: int,
    seed: int,
) -> tuple[float, float]:
    check_confidence(confidence)
    if min(len(ours), len(others)) < 2:
        raise ValueError("the bootstrap draws prompts anew; give two or more of each kind.")
    # Percentiles, not BCa: a perfect detector has no acceleration, and a step function a poor one.
    bounds = bootstrap(
        (ours, others),
        statistic,
        vectorized=False,
        method="percentile",
        confidence_level=confidence,
        n_resamples=resamples,
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return float(bounds.low), float(bounds.high)


def _check(memorized: ArrayLike, ordinary: ArrayLike) -> tuple[Scores, Scores]:
    groups = [np.asarray(g, dtype=np.float64) for g in (memorized, ordinary)]
    for name, scores in zip(("memorized", "ordinary"), groups, strict=True):
        if scores.ndim != 1 or len(scores) == 0:
            raise ValueError(
                f"the scores of {name} prompts came as {scores.shape}; give one score per prompt, "
                "(n,) with n at least 1"
            )
        if not np.isfinite(scores).all():
            raise ValueError(f"a score of the {name} prompts is not finite; say what it stands for")
    return groups[0], groups[1]


def _check_limit(limit: float) -> None:
    if not 0 <= limit < 1:
        raise ValueError(f"the FPR limit is {limit}; it is a share in [0, 1), such as 0.01.")
