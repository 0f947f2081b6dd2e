"""Confidence intervals: exact ones of a share, and the bootstrap for everything else."""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import DegenerateDataWarning, binomtest, bootstrap

Values = NDArray[np.float64]
Statistic = Callable[[Values], float]


def clopper_pearson(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Bounds (low, high) in [0, 1] of the true share when k of n independent trials came true.

    They hold the true share with at least the given confidence, whatever it is. Where trials have
    chances of their own, as images of several given prompts do, they hold the mean chance: the
    count then varies less (Hoeffding, 1956). Images that stand for other prompts too are not
    independent, so as bounds for those prompts they are too narrow.

    Raises ValueError unless 0 <= k <= n, n >= 1 and 0 < confidence < 1.
    Source: Clopper and Pearson, Biometrika, 1934.
    """
    if not (0 <= k <= n and n >= 1):
        raise ValueError(f"{k} of {n} is no share; 0 <= k <= n and n >= 1 must hold.")
    check_confidence(confidence)
    bounds = binomtest(k, n).proportion_ci(confidence, method="exact")
    return float(bounds.low), float(bounds.high)


def bootstrap_interval(
    prompts: Sequence[ArrayLike],
    statistic: Statistic = np.mean,
    *,
    confidence: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> tuple[float, float]:
    """Bounds (low, high) of a statistic of images, by drawing prompts anew.

    The images of one prompt share it and are not independent, so a prompt is drawn with all its
    images or not at all. The bounds are bias-corrected and accelerated (BCa), and approximate:
    with few prompts they are too narrow. A share that is 0 or 1 everywhere needs
    `clopper_pearson`.

    Args:
        prompts: the values of each prompt's images, (M_p,) each; two or more prompts.
        statistic: of all images drawn, (sum of M_p,) to a number; such as `np.mean`, or
            `lambda x: np.percentile(x, 95)`.
        confidence: of the interval, in (0, 1).
        resamples: how often the prompts are drawn.
        seed: of the drawing.

    Returns:
        (low, high); both NaN where the data do not tell: every draw gives the same statistic.

    Raises:
        ValueError: fewer than two prompts, an empty one, a value not finite or a bad confidence.
    Source: Efron, JASA, 1987; Davison and Hinkley, Bootstrap Methods, 1997, for the clusters.
    """
    groups = _groups(prompts)

    def drawn(chosen: NDArray[np.int64]) -> float:
        return float(statistic(np.concatenate([groups[i] for i in chosen])))

    return _bca(drawn, len(groups), confidence, resamples, seed)


def paired_interval(
    first: Sequence[ArrayLike],
    second: Sequence[ArrayLike],
    statistic: Statistic = np.mean,
    *,
    confidence: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> tuple[float, float]:
    """Bounds of statistic(first) - statistic(second) for two methods on the same prompts.

    Entry i of both belongs to prompt i; a drawn prompt brings the images of both methods, so what
    the prompts have in common cancels. Arguments, bounds and errors are those of
    `bootstrap_interval`; also ValueError if the numbers of prompts differ.
    """
    ours, others = _groups(first), _groups(second)
    if len(ours) != len(others):
        raise ValueError(
            f"the first method has {len(ours)} prompts, the second {len(others)}; pair them by "
            "giving the same prompts in the same order"
        )

    def drawn(chosen: NDArray[np.int64]) -> float:
        one = statistic(np.concatenate([ours[i] for i in chosen]))
        return float(one - statistic(np.concatenate([others[i] for i in chosen])))

    return _bca(drawn, len(ours), confidence, resamples, seed)


def _bca(
    drawn: Callable[[NDArray[np.int64]], float],
    count: int,
    confidence: float,
    resamples: int,
    seed: int,
) -> tuple[float, float]:
    check_confidence(confidence)
    # That data do not tell is said by NaN; scipy and numpy need not say it too.
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", DegenerateDataWarning)
        found = bootstrap(
            (np.arange(count),),
            drawn,
            vectorized=False,
            method="BCa",
            confidence_level=confidence,
            n_resamples=resamples,
            random_state=np.random.default_rng(seed),
        )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _groups(prompts: Sequence[ArrayLike]) -> list[Values]:
    groups = [np.asarray(p, dtype=np.float64).ravel() for p in prompts]
    if len(groups) < 2 or not all(len(g) for g in groups):
        raise ValueError(
            f"there are {len(groups)} prompts with {[len(g) for g in groups[:5]]} values; the "
            "bootstrap draws prompts, so give two or more, each with a value"
        )
    if not all(np.isfinite(g).all() for g in groups):
        raise ValueError("a value is not finite; leave out what has no score, and say so.")
    return groups


def check_confidence(confidence: float) -> None:
    """Refuse what is no share between 0 and 1, such as 95, with a sentence (ValueError)."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must lie between 0 and 1, such as 0.95.")
