"""Charts as inline SVG: gap curves of a rule, and the rules by copies and agreement.

The same input gives the same text. Whatever colour tells, a dash or a shape tells too.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import rc_context
from numpy.typing import NDArray

from sidestep.runs.records import Record
from sidestep.sampling.trace import Trace
from sidestep.web import drawing
from sidestep.web.drawing import CSS, KIND_COLOUR, STYLE, Point

DASH = {"target": "solid", "ordinary": (0, (4, 2)), "other": "solid"}
MARKER = {"target": "o", "ordinary": "^", "other": "s"}
Array = NDArray[np.float64]


class Curves(NamedTuple):
    """What one rule's chart shows of one kind of prompt."""

    time: Array  # (T,) diffusion time, 1 = noise
    gap: Array  # (T, B) NaN where no gap was measured
    transition: NDArray[np.int64]  # (B,) step, -1 = never
    fell_back: NDArray[np.bool_]  # (B,)

    @property
    def median(self) -> Array:
        """Median gap of the samples measured at each step, (T,); NaN where there are none."""
        result = np.full(len(self.time), np.nan)
        for step, row in enumerate(self.gap):
            if not np.isnan(row).all():
                result[step] = np.nanmedian(row)
        return result

    def some(self, most: int) -> NDArray[np.int64]:
        """At most this many samples, spread evenly over all."""
        count = self.gap.shape[1]
        return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.int64))


def axis_top(shown: Sequence[Curves], most: int) -> float:
    """The upper end of a gap axis: holds every median, and all but the highest 0.5 % of the gaps.

    One sample that breaks out would otherwise press all others flat.
    """
    gaps = [gap[np.isfinite(gap)] for c in shown for gap in (c.gap[:, c.some(most)],)]
    medians = [c.median[np.isfinite(c.median)] for c in shown]
    every, middle = np.concatenate([*gaps, []]), np.concatenate([*medians, []])
    if not every.size:
        return 1.0
    return 1.05 * max(float(np.quantile(every, 0.995)), float(middle.max())) or 1.0


def curves(trace: Trace, records: Sequence[Record]) -> dict[str, Curves]:
    """A rule's trace by kind of prompt; column i of the trace belongs to records[i]."""
    kinds = np.array([r.kind for r in records])
    time, gap = trace.time.double().numpy(), trace.gap.double().numpy()
    gap = np.where(np.isfinite(gap), gap, np.nan)
    transition, fell_back = trace.transition.numpy(), trace.fell_back.numpy()
    return {
        kind: Curves(
            time, gap[:, kinds == kind], transition[kinds == kind], fell_back[kinds == kind]
        )
        for kind in KIND_COLOUR
        if (kinds == kind).any()
    }


def gap_chart(kinds: dict[str, Curves], *, top: float, shown: int, name: str) -> str:
    """SVG of one rule: thin samples, a thick median and a mark at each shown sample's transition.

    Args:
        kinds: the rule's curves by kind of prompt.
        top: upper end of the gap axis, shared by the rules of a report; curves may leave it.
        shown: most samples drawn per kind; the median is that of all.
        name: read aloud in place of the picture.
    """
    with rc_context(STYLE):
        figure = drawing.figure(4.4, 3.0)
        axes = drawing.plain_axes(figure.add_subplot(), CSS)
        low = min((float(c.time.min()) for c in kinds.values()), default=0.0)
        axes.set_xlim(1.0, min(low, 0.0))
        axes.set_ylim(0, top)
        axes.set_xlabel("diffusion time (1 = noise)")
        axes.set_ylabel("gap")
        for kind, one in kinds.items():
            colour, dash = KIND_COLOUR[kind], DASH[kind]
            axes.plot(
                one.time, one.gap[:, one.some(shown)], color=colour, lw=0.6, alpha=0.28, ls=dash
            )
            axes.plot(one.time, one.median, color=CSS.paper, lw=4.2, zorder=3)
            axes.plot(one.time, one.median, color=colour, lw=2.2, ls=dash, zorder=3.1)
            for x, y, fallback in _transitions(one, shown):
                axes.plot(
                    x, min(y, top), MARKER[kind], ms=4, mew=0.9, mec=colour, alpha=0.85,
                    mfc=CSS.paper if fallback else colour, zorder=4, clip_on=False,
                )  # fmt: skip
        return drawing.svg(figure, name)


def _transitions(one: Curves, shown: int) -> Iterator[tuple[float, float, bool]]:
    """(time, gap, opened by fallback) where guidance came on; gap 0 where it was not measured."""
    for sample in one.some(shown):
        step = int(one.transition[sample])
        if step >= 0:
            gap = one.gap[step, sample]
            yield float(one.time[step]), float(np.nan_to_num(gap)), bool(one.fell_back[sample])


def scatter(
    points: Sequence[Point], *, ylabel: str, ceiling: float | None, name: str, share: bool = True
) -> str:
    """SVG of the rules: share of copies with its interval across, agreement upwards.

    `share` says whether agreement lies in [0, 1] and is shown in %. `ceiling` is what real
    drawings reach, None where that is not known.
    """
    with rc_context(STYLE):
        figure = drawing.figure(5.0, 3.8)
        axes = drawing.plain_axes(figure.add_subplot(), CSS)
        right = max([p.high for p in points] + [0.1])
        highs = [p.agreement for p in points] + ([ceiling] if ceiling is not None else [])
        bottom, top = max(0.0, min(highs) - 0.12), min(1.03, max(highs) + 0.06)
        if not share:
            room = 0.15 * max(max(highs) - min(highs), 0.01)
            bottom, top = min(highs) - room, max(highs) + room
        axes.set_xlim(-0.02 * right, min(1.02, right * 1.08))
        axes.set_ylim(bottom, top)
        axes.set_xlabel("copies, share of images (bars: 95 % interval)")
        axes.set_ylabel(ylabel)
        for axis in (axes.xaxis, axes.yaxis) if share else (axes.xaxis,):
            axis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        if ceiling is not None:
            axes.axhline(ceiling, color=CSS.soft, lw=0.9, ls=(0, (2, 2)))
            axes.text(
                0.995, ceiling, f"real held-out drawings {100 * ceiling:.0f} %", color=CSS.soft,
                ha="right", va="bottom", transform=axes.get_yaxis_transform(), fontsize=8.5,
            )  # fmt: skip
        for p in points:
            axes.plot([p.low, p.high], [p.agreement] * 2, color=CSS.soft, lw=1.1, zorder=2)
            axes.plot(p.copies, p.agreement, "o", color=CSS.ink, ms=6.5, mec=CSS.paper, zorder=3)
        axes.text(
            0.008, 0.985, "↖ better: few copies, on prompt", transform=axes.transAxes,
            ha="left", va="top", color=CSS.soft, fontsize=8.5,
        )  # fmt: skip
        drawing.label(figure, axes, points)
        return drawing.svg(figure, name)
