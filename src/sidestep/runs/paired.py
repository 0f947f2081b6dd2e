"""Differences to plain guidance over the same seeds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import bootstrap

from sidestep.runs.records import Record

RESAMPLES = 5000


class Change(NamedTuple):
    """A mean difference to plain guidance over the same seeds, with its 95 % interval."""

    mean: float
    low: float
    high: float


def pairs_of(rows: Sequence[Record], plain: Sequence[Record]) -> list[tuple[Record, Record]]:
    """Records of the same prompt and draw, so of the same first noise."""
    there = {(r.prompt, r.draw): r for r in plain}
    return [(r, there[r.prompt, r.draw]) for r in rows if (r.prompt, r.draw) in there]


def close(r: Record) -> float:
    """Whether the prompt's concept is among the five best, 0 or 1."""
    return float(r.agreement is not None and r.agreement <= 5)


def _numbers(r: Record) -> dict[str, float]:
    """What an image adds to each mean that is compared with plain guidance's."""
    found = {"copy_share": float(bool(r.copy)), "similarity_mean": r.similarity[str(r.recipe)]}
    if r.agreement is not None:
        found |= {"good_share": close(r) * (not r.copy), "agreement_r5": close(r)}
    return found | r.text


def changes_to(rows: Sequence[Record], plain: Sequence[Record]) -> dict[str, Change] | None:
    """The mean differences to plain guidance over the same seeds, of what all pairs have.

    By number: `copy_share`, `similarity_mean`, where concepts are known `good_share` and
    `agreement_r5`, and each image-text recipe by its name. The interval is a percentile bootstrap
    that draws prompts, since images of one prompt resemble each other. None with fewer than two
    prompts in common.

    Source: Efron, The Annals of Statistics, 1979.
    """
    pairs = [(a.prompt, _numbers(a), _numbers(b)) for a, b in pairs_of(rows, plain)]
    if len({prompt for prompt, *_ in pairs}) < 2:
        return None
    names = [n for n in pairs[0][1] if all(n in own and n in other for _, own, other in pairs)]
    by_prompt: dict[str, list[list[float]]] = {}
    for prompt, own, other in pairs:
        by_prompt.setdefault(prompt, []).append([own[n] - other[n] for n in names])
    each = np.array([np.mean(values, axis=0) for values in by_prompt.values()])
    found = bootstrap(
        (each,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    means = each.mean(axis=0)
    return {
        name: Change(float(means[i]), float(found.low[i]), float(found.high[i]))
        for i, name in enumerate(names)
    }
