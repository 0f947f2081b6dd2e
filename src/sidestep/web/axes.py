"""What the charts of a comparison put across and what upwards."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from sidestep.bench import tables
from sidestep.bench.compare import Line
from sidestep.errors import BadRecords


class Axis(NamedTuple):
    """A number of a line, and how it is shown."""

    label: str
    of: Callable[[Line], float]
    share: bool  # in [0, 1], shown in %
    bounds: Callable[[Line], tuple[float, float]] | None = None  # its 95 % interval


COPIES = Axis(
    "copies, share of images", lambda x: x.copy_share, True, lambda x: (x.copy_low, x.copy_high)
)
SIMILARITY = Axis("similarity, 95th percentile", lambda x: x.similarity_p95, False)


def agreement(lines: Sequence[Line]) -> Axis:
    """How well pictures fit their prompts: R@5, or the image-text score where that is unknown.

    Raises BadRecords for lines that have neither.
    """
    if all(x.agreement_r5 is not None for x in lines):
        return Axis("agreement with the prompt (R@5)", lambda x: x.agreement_r5 or 0.0, True)
    name = next((n for n in tables.recipes(lines) if all(n in x.text for x in lines)), None)
    if name is None:
        raise BadRecords(
            "the records say nothing of how well pictures fit their prompts, so there is nothing "
            "to draw copies against; a scenario says it with an image-text recipe (metric.text). "
            "`sidestep bench compare` shows the numbers"
        )
    return Axis(name, lambda x: x.text[name], False)
