"""Numbers of many images: how each paper sums up similarities, and the draws of one prompt.

Similarities come per prompt: for each an array (M,), one number per image, the highest over the
prompt's references (`over_references`). A number of one aggregate compares with no other.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sidestep.similarity.base import Vectors
from sidestep.similarity.search import nearest

Values = NDArray[np.float64]
T = TypeVar("T")
LAION_CUT = 0.5  # the convention on LAION; what it means depends on the recipe: calibrate
# Webster's marks: matching, retrieved and template verbatim; `N` is no copy.
KINDS: dict[str, Literal["verbatim", "template"]] = {
    "MV": "verbatim",
    "RV": "verbatim",
    "TV": "template",
}


class MedianSpread(NamedTuple):
    """Of the numbers of prompts."""

    median: float
    mad: float  # median absolute deviation from the median, not scaled to a normal's deviation


class MemBench(NamedTuple):
    """Each is taken per prompt, then averaged over prompts."""

    highest: float  # similarity of the closest seed
    top3: float  # mean similarity of the three closest seeds
    share: float  # of a prompt's images above the cut


class TopOne(NamedTuple):
    """Of every image's similarity to its nearest picture in the whole training set."""

    mean: float
    p95: float  # 95th percentile
    share: float  # above the cut


class Extremes(NamedTuple):
    """Of every image's similarity to its nearest picture in the whole training set."""

    highest: float
    top5: float  # mean of the 5 % most similar images, at least one


def over_references(similarities: ArrayLike) -> Values:
    """(M, R) similarity of M images to a prompt's R references, to (M,): the closest one counts.

    A template prompt has several references, and likeness to any of them is a copy.
    """
    table = np.asarray(similarities, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] == 0 or not np.isfinite(table).all():
        raise ValueError(
            f"similarities came as {table.shape}; they must be finite and (M, R), M images by one "
            "or more references"
        )
    highest: Values = table.max(axis=1)
    return highest


def wen(prompts: Sequence[ArrayLike]) -> float:
    """Mean over a prompt's images, then over prompts, so that prompts weigh the same.

    Source: Wen et al., ICLR 2024.
    """
    return float(np.mean([row.mean() for row in _rows(prompts)]))


def nemo(prompts: Sequence[ArrayLike]) -> MedianSpread:
    """Median over a prompt's seeds, then median and its absolute deviation over prompts.

    Source: Hintersdorf et al., NeMo, NeurIPS 2024; DoRI reports the same.
    """
    medians = np.array([np.median(row) for row in _rows(prompts)])
    middle = np.median(medians)
    return MedianSpread(float(middle), float(np.median(np.abs(medians - middle))))


def membench(prompts: Sequence[ArrayLike], cut: float = LAION_CUT) -> MemBench:
    """The closest seed, the three closest and the share above `cut`, as means over prompts.

    Prompts with fewer than three seeds are refused: their top three would not compare.
    Source: Hong et al., MemBench, with ten seeds per prompt.
    """
    rows = _rows(prompts)
    if short := [len(row) for row in rows if len(row) < 3]:
        raise ValueError(
            f"{len(short)} prompts have {min(short)} seeds or few more; the mean of the top three "
            "needs three: draw more, or use another aggregate"
        )
    return MemBench(
        float(np.mean([row.max() for row in rows])),
        float(np.mean([np.sort(row)[-3:].mean() for row in rows])),
        float(np.mean([(row > cut).mean() for row in rows])),
    )


def dcr(top: ArrayLike, cut: float = LAION_CUT) -> TopOne:
    """Mean, 95th percentile and share above `cut` of every image's nearest training picture.

    `top` is (N,): similarity to the closest picture of the whole training set (`nearest` with
    k = 1), whatever the prompt. Percentiles are interpolated linearly.
    Source: Somepalli et al., CVPR 2023 (DCR); Jain et al. report the percentile.
    """
    values = _flat(top)
    return TopOne(
        float(values.mean()), float(np.percentile(values, 95)), float((values > cut).mean())
    )


def amg(top: ArrayLike) -> Extremes:
    """The highest similarity and the mean of the highest 5 %, of the same numbers as `dcr`.

    Source: Chen et al., AMG, CVPR 2024.
    """
    values = np.sort(_flat(top))[::-1]
    count = max(1, len(values) * 5 // 100)
    return Extremes(float(values[0]), float(values[:count].mean()))


def background(
    training: Vectors, percentiles: Iterable[float] = (50, 75, 90, 95)
) -> dict[float, float]:
    """How close the training pictures are to each other: what `dcr` has to be read against.

    Args:
        training: unit rows (N, D), N at least 2, of one recipe.
        percentiles: of each picture's similarity to its nearest other picture, in [0, 100].

    Returns:
        The similarity at each percentile. A picture that is in the set twice counts with 1.
    """
    if len(training) < 2:
        raise ValueError(f"{len(training)} training pictures have no neighbours; give two or more")
    # A picture is its own nearest, or an equal one is: either way the second is the nearest other.
    other = nearest(training, training, k=2)[0][:, 1]
    return {p: float(np.percentile(other, p)) for p in percentiles}


def images_above(prompts: Sequence[ArrayLike], cut: float) -> float:
    """Share of all images whose similarity lies above `cut`: a memorization rate by image."""
    return float((np.concatenate(_rows(prompts)) > cut).mean())


def prompts_above(prompts: Sequence[ArrayLike], cut: float) -> float:
    """Share of prompts with an image above `cut`: a memorization rate by prompt.

    It grows with the number of seeds, so it compares only between equal numbers of them.
    """
    return float(np.mean([row.max() > cut for row in _rows(prompts)]))


def by_kind(items: Sequence[T], kinds: Sequence[str]) -> dict[str, list[T]]:
    """The items of verbatim and of template prompts apart; prompts marked `N` are left out.

    Template memorization is much harder to undo, so one number over both hides it.
    `kinds` holds the mark of each item: MV and RV are verbatim, TV template, N no copy.
    Source: Webster, arXiv:2305.08694.
    """
    if len(items) != len(kinds):
        raise ValueError(f"there are {len(items)} items and {len(kinds)} marks; give one for each")
    if unknown := sorted(set(kinds) - KINDS.keys() - {"N"}):
        raise ValueError(f"unknown marks {', '.join(unknown)}; known are MV, RV, TV and N")
    groups: dict[str, list[T]] = {"verbatim": [], "template": []}
    for item, kind in zip(items, kinds, strict=True):
        if kind != "N":
            groups[KINDS[kind]].append(item)
    return groups


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


def _rows(prompts: Sequence[ArrayLike]) -> list[Values]:
    rows = [_flat(p) for p in prompts]
    if not rows:
        raise ValueError("there is no prompt; give the similarities of at least one")
    return rows


def _flat(values: ArrayLike) -> Values:
    row = np.asarray(values, dtype=np.float64)
    if row.ndim != 1 or len(row) == 0 or not np.isfinite(row).all():
        raise ValueError(
            f"similarities came as {row.shape}; they must be finite, (M,), one per image and at "
            "least one. Take over_references first where there are several references."
        )
    return row
