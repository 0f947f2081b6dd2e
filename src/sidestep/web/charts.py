"""Charts as inline SVG: gap curves of a rule, and the rules by copies and agreement.

Drawn with matplotlib's object interface, so no global figure is left behind. The same input gives
the same text. Colours are written as CSS variables, so a chart follows the page into dark mode and
onto paper; whatever colour tells, a dash or a shape tells too.
"""

import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from sidestep.audit.records import Record
from sidestep.sampling.trace import Trace

# matplotlib knows no CSS variables: these stand in for them and are exchanged in the text.
INK, SOFT, LINE = "#010203", "#010204", "#010205"
KIND_COLOUR = {"target": "#010206", "ordinary": "#010207", "other": "#010208"}
PAPER = "#010209"
VARIABLES = {
    INK: "var(--ink)", SOFT: "var(--soft)", LINE: "var(--line)", PAPER: "var(--paper)",
    **{colour: f"var(--{kind})" for kind, colour in KIND_COLOUR.items()},
}  # fmt: skip
DASH = {"target": "solid", "ordinary": (0, (4, 2)), "other": "solid"}
MARKER = {"target": "o", "ordinary": "^", "other": "s"}
STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: it can be selected, found and read aloud
    "text.parse_math": False,  # a dollar sign in a label is a dollar sign
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.unicode_minus": False,
}
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


class Point(NamedTuple):
    """A rule in the scatter; shares lie in [0, 1]."""

    label: str
    copies: float
    low: float
    high: float
    agreement: float


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
        figure, axes = _axes(4.4, 3.0)
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
            axes.plot(one.time, one.median, color=PAPER, lw=4.2, zorder=3)
            axes.plot(one.time, one.median, color=colour, lw=2.2, ls=dash, zorder=3.1)
            for x, y, fallback in _transitions(one, shown):
                axes.plot(
                    x, min(y, top), MARKER[kind], ms=4, mew=0.9, mec=colour, alpha=0.85,
                    mfc=PAPER if fallback else colour, zorder=4, clip_on=False,
                )  # fmt: skip
        return _svg(figure, name)


def _transitions(one: Curves, shown: int) -> Iterator[tuple[float, float, bool]]:
    """(time, gap, opened by fallback) where guidance came on; gap 0 where it was not measured."""
    for sample in one.some(shown):
        step = int(one.transition[sample])
        if step >= 0:
            gap = one.gap[step, sample]
            yield float(one.time[step]), float(np.nan_to_num(gap)), bool(one.fell_back[sample])


def scatter(points: Sequence[Point], *, ylabel: str, ceiling: float | None, name: str) -> str:
    """SVG of the rules: share of copies with its interval across, agreement upwards.

    `ceiling` is what real drawings reach, None where that is not known.
    """
    with rc_context(STYLE):
        figure, axes = _axes(5.0, 3.8)
        right = max([p.high for p in points] + [0.1])
        highs = [p.agreement for p in points] + ([ceiling] if ceiling is not None else [])
        bottom = max(0.0, min(highs) - 0.12)
        axes.set_xlim(-0.02 * right, min(1.02, right * 1.08))
        axes.set_ylim(bottom, min(1.03, max(highs) + 0.06))
        axes.set_xlabel("copies, share of images (bars: 95 % interval)")
        axes.set_ylabel(ylabel)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        if ceiling is not None:
            axes.axhline(ceiling, color=SOFT, lw=0.9, ls=(0, (2, 2)))
            axes.text(
                0.995, ceiling, f"real held-out drawings {100 * ceiling:.0f} %", color=SOFT,
                ha="right", va="bottom", transform=axes.get_yaxis_transform(), fontsize=8.5,
            )  # fmt: skip
        for p in points:
            axes.plot([p.low, p.high], [p.agreement] * 2, color=SOFT, lw=1.1, zorder=2)
            axes.plot(p.copies, p.agreement, "o", color=INK, ms=6.5, mec=PAPER, zorder=3)
        axes.text(
            0.008, 0.985, "↖ better: few copies, on prompt", transform=axes.transAxes,
            ha="left", va="top", color=SOFT, fontsize=8.5,
        )  # fmt: skip
        _label(figure, axes, points)
        return _svg(figure, name)


def _label(figure: Figure, axes: Axes, points: Sequence[Point]) -> None:
    """Write each rule's name near its point, where it covers the least of what is drawn."""
    canvas = FigureCanvasAgg(figure)
    drawn: Any = canvas  # matplotlib leaves these methods untyped
    drawn.draw()
    renderer: Any = drawn.get_renderer()
    frame = axes.get_window_extent(renderer)
    taken = [t.get_window_extent(renderer) for t in axes.texts]
    for p in points:
        x, y = axes.transData.transform((p.copies, p.agreement))
        left, _ = axes.transData.transform((p.low, p.agreement))
        right, _ = axes.transData.transform((p.high, p.agreement))
        taken += [
            Bbox.from_bounds(x - 6, y - 6, 12, 12),
            Bbox.from_extents(left, y - 1, right, y + 1),
        ]
    places = [
        *(("end", 6, dy, "left") for dy in (0, 3, -3, 6, -6)),
        *(
            ("point", dx, side * dy, align)
            for dy in (9, 21, 34, 48, 62)
            for side in (1, -1)
            for dx, align in ((8, "left"), (-8, "right"), (0, "center"))
        ),
    ]
    for p in sorted(points, key=lambda p: (p.agreement, p.copies)):
        options = []
        for place in places:
            text = _name(axes, p, *place, leader=False)
            box = Bbox.from_extents(*text.get_window_extent(renderer).extents)
            text.remove()
            cost = sum(_overlap(box, other) for other in taken) + 0.5 * abs(place[2])
            cost += 10 * (_area(box) - _overlap(box, frame))
            options.append((cost, place, box))
        _, place, box = min(options, key=lambda option: option[0])
        _name(axes, p, *place, leader=abs(place[2]) > 10)
        taken.append(box)


def _name(
    axes: Axes, p: Point, anchor: str, dx: float, dy: float, align: str, *, leader: bool
) -> Annotation:
    """A rule's name beside its point, or beside the end of its interval."""
    at = p.high if anchor == "end" else p.copies
    line = {"arrowstyle": "-", "color": SOFT, "lw": 0.6, "shrinkB": 4} if leader else None
    text = axes.annotate(
        p.label, (at, p.agreement), (dx, dy), textcoords="offset points", ha=align,
        va="center", color=INK, fontsize=9, zorder=5, arrowprops=line,
    )  # fmt: skip
    text.set_in_layout(False)  # else a name would move the axes it was placed in
    return text


def _area(box: Bbox) -> float:
    return float(box.width * box.height)


def _overlap(a: Bbox, b: Bbox) -> float:
    both = Bbox.intersection(a, b)
    return _area(both) if both is not None else 0.0


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
    axes = figure.add_subplot(facecolor="none")
    axes.grid(True, color=LINE, lw=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(LINE)
    axes.tick_params(colors=SOFT, length=0, pad=5)
    axes.xaxis.label.set_color(SOFT)
    axes.yaxis.label.set_color(SOFT)
    return figure, axes


def _svg(figure: Figure, name: str) -> str:
    """The figure as an <svg> element that may stand in a page beside others."""
    key = "c" + hashlib.sha256(name.encode()).hexdigest()[:8]
    memory = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with rc_context({"svg.hashsalt": key}):
        figure.savefig(memory, format="svg", metadata=nothing)
    text = memory.getvalue()
    text = text[text.index("<svg") :]
    # The ids of two charts would clash in one page.
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{key}-", text)
    # A hundredth of a point is more than a screen shows, and halves the size.
    text = re.sub(r' d="[^"]*"', lambda m: re.sub(r"(\.\d\d)\d+", r"\1", m[0]), text)
    # A <style> in one chart would rule the whole page.
    text = re.sub(r"<!--.*?-->\s*|<defs>\s*<style.*?</defs>\s*", "", text, flags=re.DOTALL)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, variable)
    # The page's own typeface and width; the viewBox keeps the proportions.
    text = re.sub(r'font-family: [^;"]*;? ?', "", text)
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text).groups()  # type: ignore[union-attr]
    head = f'<svg role="img" aria-label="{_attribute(name)}" viewBox="0 0 {width} {height}" '
    return re.sub(
        r"<svg [^>]*>",
        lambda _: head + 'xmlns:xlink="http://www.w3.org/1999/xlink">',
        text,
        count=1,
    )


def _attribute(text: str) -> str:
    for character, entity in (("&", "&amp;"), ('"', "&quot;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, entity)
    return text
