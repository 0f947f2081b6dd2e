"""Exact confidence intervals of a share."""

from scipy.stats import binomtest


def clopper_pearson(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Bounds (low, high) in [0, 1] of the true share when k of n independent trials came true.

    They hold the true share with at least the given confidence, whatever it is. Images that share
    a prompt are not independent trials, so for them the interval is too narrow.

    Raises ValueError unless 0 <= k <= n, n >= 1 and 0 < confidence < 1.
    Source: Clopper and Pearson, Biometrika, 1934.
    """
    if not (0 <= k <= n and n >= 1):
        raise ValueError(f"{k} of {n} is no share; 0 <= k <= n and n >= 1 must hold.")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must lie between 0 and 1, such as 0.95.")
    bounds = binomtest(k, n).proportion_ci(confidence, method="exact")
    return float(bounds.low), float(bounds.high)
