"""Mitigations of text and attention as literal loops over one sample's numbers.

Written from the formulas of the papers, with plain lists and no torch; slow on purpose. Nothing
here imports the library. Embeddings are lists of tokens, a token a list of numbers; attention
logits are lists [head][query][token]; noise is a flat list.
"""

import math
import statistics


def cads(tokens, noise, time, strength, low, high, mix):
    """Sadat et al.: anneal, rescale to the old mean and deviation, mix with psi."""
    if time <= low:
        gamma = 1.0
    elif time >= high:
        gamma = 0.0
    else:
        gamma = (high - time) / (high - low)
    noisy = [
        [
            math.sqrt(gamma) * value + strength * math.sqrt(1 - gamma) * n
            for value, n in zip(token, row, strict=True)
        ]
        for token, row in zip(tokens, noise, strict=True)
    ]
    old = [value for token in tokens for value in token]
    new = [value for token in noisy for value in token]
    result = []
    for token in noisy:
        row = []
        for value in token:
            unit = (value - statistics.fmean(new)) / statistics.stdev(new)
            rescaled = unit * statistics.stdev(old) + statistics.fmean(old)
            row.append(mix * rescaled + (1 - mix) * value)
        result.append(row)
    return result
