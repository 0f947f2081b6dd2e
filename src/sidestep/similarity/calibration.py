"""A threshold for copies with a guaranteed rate of false alarms.

A control picture was never trained on, so its highest similarity to the training set is chance.
With n controls the threshold is their k-th smallest similarity, k = ceil((n + 1) (1 - rate)). A
further picture of the same kind, exchangeable with the controls, then lies above it with
probability at most 1 - k / (n + 1) <= rate. Source: split conformal prediction; Vovk, Gammerman
and Shafer, Algorithmic Learning in a Random World, 2005.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from math import ceil, floor
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Calibration:
    """Above which similarity an image counts as a copy, and where that comes from.

    The rate is guaranteed on average over control sets drawn anew. Controls that come in groups,
    such as several pictures of one drawing, say less than as many independent ones would.
    """

    recipe: str  # whose similarities the threshold is for
    threshold: float  # a copy's similarity lies strictly above
    rate: float  # share of never-trained pictures allowed above the threshold
    controls: int  # control pictures used
    rank: int  # the threshold is the control of this rank, 1 = most similar
    highest: float  # of the controls
    median: float  # of the controls
    fingerprint: str = ""  # of the recipe's model, if it has one

    def copies(self, similarities: ArrayLike) -> NDArray[np.bool_]:
        """True where a similarity to the nearest training image makes a copy; any shape."""
        return np.asarray(similarities, dtype=np.float64) > self.threshold

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The calibration `to_dict` came from; ValueError if a field is unknown or missing."""
        known = {f.name for f in fields(cls)}
        needed = known - {"fingerprint"}
        if unfit := (set(values) - known) | (needed - set(values)):
            raise ValueError(
                f"this is no calibration: {', '.join(sorted(unfit))} is missing or unknown. "
                "Calibrate again with this version."
            )
        return cls(**values)


def calibrate(
    recipe_name: str,
    control_similarities: ArrayLike,
    rate: float = 0.01,
    *,
    fingerprint: str = "",
) -> Calibration:
    """Choose the threshold of a recipe from control pictures.

    Args:
        recipe_name: recorded, so that the threshold is not used for another recipe.
        control_similarities: (n,) similarity of each control picture to its nearest training image.
        rate: share of never-trained pictures allowed to pass as copies, in (0, 1).
        fingerprint: of the recipe's model, recorded.

    Raises:
        ValueError: rate out of range, a value not finite, or fewer than 1 / rate - 1 controls:
            with those no threshold can keep the promise.
    """
    values = np.sort(np.asarray(control_similarities, dtype=np.float64).ravel())
    if not 0 < rate < 1:
        raise ValueError(f"rate is {rate}; it is a share between 0 and 1, such as 0.01.")
    if not np.isfinite(values).all():
        raise ValueError("a control similarity is not finite; embed the control pictures again.")
    n = len(values)
    # The decimal as typed: 100 * 0.29 is below 29 in floating point and would cost a rank.
    exact = Fraction(str(float(rate)))
    rank = floor((n + 1) * exact)
    if rank < 1:
        raise ValueError(
            f"{n} control pictures cannot bound false alarms at {rate:g}; that takes at least "
            f"{ceil(1 / exact) - 1}. Add control pictures or allow a higher rate."
        )
    return Calibration(
        recipe=recipe_name,
        threshold=float(values[n - rank]),
        rate=rate,
        controls=n,
        rank=rank,
        highest=float(values[-1]),
        median=float(np.median(values)),
        fingerprint=fingerprint,
    )
