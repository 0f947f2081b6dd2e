"""Anti-memorization guidance of one sample at one step, written out number by number.

From the formulas of Chen et al. (CVPR 2024) for pictures `tanh(latent)` and the correlation of
mean-removed pixels, whose derivative is written down. Flat arrays; nothing here imports the
library or differentiates by machine.
"""

import math

import numpy as np


def correlation(picture, other):
    a, b = picture - picture.mean(), other - other.mean()
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


def correlation_slope(picture, other):
    """Derivative of the correlation by the picture."""
    a, b = picture - picture.mean(), other - other.mean()
    na, nb = math.sqrt(float(a @ a)), math.sqrt(float(b @ b))
    by_a = b / (na * nb) - float(a @ b) * a / (na**3 * nb)
    return by_a - by_a.mean()


def guided(x, uncond, cond, named, alpha, sigma, time, scale, references, settings):
    """The guided noise; `named` holds the prediction for each reference's caption, or is None."""
    threshold, c1, share, c3 = settings
    plain = uncond + scale * (cond - uncond)
    clean = (x - sigma * plain) / alpha
    picture = np.tanh(clean)
    similarities = [correlation(picture, r) for r in references]
    best = max(range(len(references)), key=lambda i: similarities[i])
    q = similarities[best]
    if not q > threshold + 0.1 * math.exp(-0.005 * 1000 * time):
        return plain
    s1 = min(max(c1 * q, 0.0), scale - 1)
    c2 = share * (scale - 1 - s1)
    s2 = min(max(c2 * q, 0.0), scale - s1 - 1)
    slope = correlation_slope(picture, references[best]) * (1 - picture**2) / alpha
    result = plain - s1 * (cond - uncond)
    if named is not None:
        result = result - s2 * (named[best] - uncond)
    return result + c3 * sigma * slope
