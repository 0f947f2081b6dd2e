"""Several tests whose errors add up to no more than one chance, each with a weight of its own.

Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of Statistics,
1979, with the weights of its section 4. Whatever hypotheses are true and however the tests depend
on each other, the chance that a true one is rejected is at most the error.
"""

from collections.abc import Sequence
from itertools import accumulate


def rejected(p: Sequence[float], weights: Sequence[float], error: float) -> list[bool]:
    """Which hypotheses are rejected.

    The one with the smallest p / weight goes first, and is rejected if that lies below the error
    over the weights of all that are left; the first that is not ends it.

    Args:
        p: p-value of each hypothesis.
        weights: its share of the error, above 0; only their proportions count.
        error: accepted chance of rejecting a true hypothesis at all.
    """
    done = [False] * len(p)
    order = sorted(range(len(p)), key=lambda i: p[i] / weights[i])
    # Summed from the end, so that rounding never leaves nothing for those to come.
    left = reversed(list(accumulate(weights[i] for i in reversed(order))))
    for i, rest in zip(order, left, strict=True):
        if p[i] / weights[i] >= error / rest:
            break
        done[i] = True
    return done
