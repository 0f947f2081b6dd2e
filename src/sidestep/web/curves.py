"""Charts of a comparison: copies or similarity against agreement, each method alone, and cost.

A method's strengths are joined by a line, from the weakest to the strongest. Other methods stay in
the background as grey points, and the Pareto front, which no method beats, is a stepped line. The
same input gives the same chart; colours are those of a palette, for a page or for a picture.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sidestep.bench.compare import Line
from sidestep.bench.front import front, hypervolume
from sidestep.web import drawing
from sidestep.web.axes import COPIES, Axis, agreement
from sidestep.web.drawing import LIGHT, STYLE, Palette, Point

COLUMNS = 3  # small charts side by side in a picture


class Curve(NamedTuple):
    """A method over its strengths.

    Its area is that of the plane of copies and agreement that they beat, see `bench.front`.
    """

    name: str
    lines: list[Line]  # by strength rising
    area: float


def curves(lines: Sequence[Line]) -> list[Curve]:
    """The methods of a comparison; plain guidance first, then by area falling."""
    up = agreement(lines)
    groups: dict[str, list[Line]] = {}
    for line in lines:
        groups.setdefault(line.curve, []).append(line)
    made = [
        Curve(
            name,
            sorted(rows, key=lambda x: (x.strength is None, x.strength or 0.0)),
            hypervolume([(x.copy_share, up.of(x)) for x in rows]),
        )
        for name, rows in groups.items()
    ]
    return sorted(made, key=lambda c: (not c.lines[0].plain, -c.area))


def best(lines: Sequence[Line]) -> list[Line]:
    """The lines that no other beats in copies and agreement, by copies rising."""
    return _front(lines, COPIES, agreement(lines))


def _front(lines: Sequence[Line], across: Axis, up: Axis) -> list[Line]:
    return [lines[i] for i in front([(across.of(x), up.of(x)) for x in lines])]


def overview(lines: Sequence[Line], across: Axis = COPIES, palette: Palette = LIGHT) -> Figure:
    """All methods at all strengths; the front and plain guidance are named."""
    up = agreement(lines)
    with rc_context(STYLE):
        figure = drawing.figure(6.4, 4.6)
        axes = drawing.plain_axes(figure.add_subplot(), palette)
        _frame(axes, lines, across, up)
        _background(axes, lines, across, up, palette)
        top = _front(lines, across, up)
        edge = _steps(axes, top, across, up, palette)
        plain = [x for x in lines if x.plain]
        named = []
        for x in {x.rule: x for x in [*top, *plain]}.values():
            at, height = across.of(x), up.of(x)
            low, high = across.bounds(x) if across.bounds else (at, at)
            colour = palette.ink if x in plain else palette.accent
            axes.plot([low, high], [height] * 2, color=palette.soft, lw=1.1, zorder=3)
            axes.plot(
                at, height, "D" if x in plain else "o", color=colour, ms=6,
                mec=palette.paper, zorder=4,
            )  # fmt: skip
            named.append(Point(x.rule, at, low, high, height))
        others = [(across.of(x), up.of(x)) for x in lines]
        _better(axes, palette)
        drawing.label(figure, axes, named, palette, [*others, *edge])
    return figure


def alone(curve: Curve, lines: Sequence[Line], palette: Palette = LIGHT) -> Figure:
    """One method before all others."""
    with rc_context(STYLE):
        figure = drawing.figure(4.2, 3.0)
        _alone(drawing.plain_axes(figure.add_subplot(), palette), curve, lines, palette)
    return figure


def each(lines: Sequence[Line], palette: Palette = LIGHT) -> Figure:
    """Every method before all others, as small charts in one picture."""
    made = curves(lines)
    rows = -(-len(made) // COLUMNS)
    with rc_context(STYLE):
        figure = drawing.figure(3.6 * COLUMNS, 2.75 * rows)
        for place, curve in enumerate(made, start=1):
            axes = drawing.plain_axes(figure.add_subplot(rows, COLUMNS, place), palette)
            _alone(axes, curve, lines, palette)
            axes.set_title(
                f"{curve.name}, area {curve.area:.2f}", loc="left", fontsize=9.5,
                color=palette.ink,
            )  # fmt: skip
            if place % COLUMNS != 1:
                axes.set_ylabel("")
                axes.tick_params(labelleft=False)
            if place + COLUMNS <= len(made):
                axes.set_xlabel("")
                axes.tick_params(labelbottom=False)
    return figure


def cost(lines: Sequence[Line], palette: Palette = LIGHT) -> Figure:
    """Per method: the area it covers, harm to ordinary prompts, evaluations and seconds an image.

    A bar or a row of dots spans the strengths of a method.
    """
    made = curves(lines)
    with rc_context(STYLE):
        figure = drawing.figure(9.6, 1.0 + 0.34 * len(made))
        ordinary = [x for x in lines if x.ordinary_r5 is not None]
        panels: list[tuple[str, Callable[[Line], float | None]]] = [
            ("evaluations, backward as 2", lambda x: x.nfe + 2 * x.backward),
            ("seconds per image", lambda x: x.seconds),
        ]
        if ordinary:
            panels.insert(0, ("ordinary prompts: R@5 in %", lambda x: _times_100(x.ordinary_r5)))
        every = figure.subplots(1, 1 + len(panels), sharey=True, squeeze=False)[0]
        _areas(drawing.plain_axes(every[0], palette), made, palette)
        for axes, (title, value) in zip(every[1:], panels, strict=True):
            _spans(drawing.plain_axes(axes, palette), made, title, value, palette)
    return figure


def _frame(axes: Axes, lines: Sequence[Line], across: Axis, up: Axis) -> None:
    """Limits and words of the axes, the same for all charts of a comparison."""
    right = max(across.bounds(x)[1] if across.bounds else across.of(x) for x in lines)
    left = 0.0 if across.share else min(across.of(x) for x in lines)
    width = max(right - left, 0.05)
    heights = [up.of(x) for x in lines]
    if up.share:
        bottom, top = max(0.0, min(heights) - 0.08), min(1.03, max(heights) + 0.1)
    else:
        room = 0.15 * max(max(heights) - min(heights), 0.01)
        bottom, top = min(heights) - room, max(heights) + room
    axes.set_xlim(left - 0.03 * width, right + 0.05 * width)
    axes.set_ylim(bottom, top)
    axes.set_xlabel(across.label)
    axes.set_ylabel(up.label)
    for axis, shown in ((axes.xaxis, across), (axes.yaxis, up)):
        if shown.share:
            axis.set_major_formatter(_percent)


def _percent(value: float, _: object) -> str:
    return f"{100 * value:.0f} %"


def _times_100(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _background(
    axes: Axes, lines: Sequence[Line], across: Axis, up: Axis, palette: Palette
) -> None:
    for curve in curves(lines):
        points = [(across.of(x), up.of(x)) for x in curve.lines]
        axes.plot(*zip(*points, strict=True), color=palette.line, lw=0.8, zorder=1)
        axes.plot(
            *zip(*points, strict=True),
            "o",
            color=palette.soft,
            ms=2.6,
            alpha=0.5,
            mew=0,
            zorder=1.5,
        )


def _steps(
    axes: Axes, top: Sequence[Line], across: Axis, up: Axis, palette: Palette
) -> list[tuple[float, float]]:
    """Draw the edge of what the front beats, out to the frame; points along its level parts."""
    xs = [across.of(x) for x in top]
    ys = [up.of(x) for x in top]
    axes.plot(
        [xs[0], *xs, axes.get_xlim()[1]], [axes.get_ylim()[0], *ys, ys[-1]],
        color=palette.accent, lw=1, ls=(0, (3, 2)), drawstyle="steps-post", zorder=2,
    )  # fmt: skip
    ends = [*xs[1:], axes.get_xlim()[1]]
    return [
        (float(x), y)
        for start, end, y in zip(xs, ends, ys, strict=True)
        for x in np.linspace(start, end, 40)
    ]


def _better(axes: Axes, palette: Palette) -> None:
    axes.text(
        0.01, 0.985, "↖ better", transform=axes.transAxes, ha="left", va="top",
        color=palette.soft, fontsize=8.5,
    )  # fmt: skip


def _alone(axes: Axes, curve: Curve, lines: Sequence[Line], palette: Palette) -> None:
    up = agreement(lines)
    _frame(axes, lines, COPIES, up)
    _background(axes, lines, COPIES, up, palette)
    _steps(axes, _front(lines, COPIES, up), COPIES, up, palette)
    points = [(x.copy_share, up.of(x)) for x in curve.lines]
    for x in curve.lines:
        axes.plot([x.copy_low, x.copy_high], [up.of(x)] * 2, color=palette.soft, lw=0.8, zorder=3)
    axes.plot(
        *zip(*points, strict=True), "-o", color=palette.accent, lw=1.8, ms=5, mec=palette.paper,
        zorder=4,
    )  # fmt: skip
    ends = [curve.lines[0], curve.lines[-1]] if len(curve.lines) > 1 else []
    for x in ends:
        if x.strength is not None:
            axes.annotate(
                f"{x.strength:g}", (x.copy_share, up.of(x)), (0, 7), ha="center",
                textcoords="offset points", fontsize=8.5, color=palette.ink, zorder=5,
            )  # fmt: skip


def _areas(axes: Axes, made: Sequence[Curve], palette: Palette) -> None:
    rows = range(len(made))
    axes.barh(rows, [c.area for c in made], height=0.62, color=palette.accent, zorder=2)
    for y, curve in zip(rows, made, strict=True):
        axes.text(curve.area, y, f" {curve.area:.2f}", va="center", fontsize=8, color=palette.ink)
    axes.set_xlim(0, 1.18 * max(0.1, *(c.area for c in made)))
    axes.set_yticks(rows, [c.name for c in made], color=palette.ink)
    axes.set_ylim(len(made) - 0.5, -0.5)
    axes.set_title("area covered", fontsize=9, color=palette.soft, loc="left")
    axes.grid(False, axis="y")


def _spans(
    axes: Axes, made: Sequence[Curve], title: str, value: Callable[[Line], float | None],
    palette: Palette,
) -> None:  # fmt: skip
    for y, curve in enumerate(made):
        found = [v for x in curve.lines if (v := value(x)) is not None]
        if not found:
            continue
        axes.plot([min(found), max(found)], [y, y], color=palette.line, lw=5, zorder=1.5)
        axes.plot(found, [y] * len(found), "o", color=palette.accent, ms=5, mec=palette.paper)
        if curve.lines[0].plain:
            axes.axvline(found[0], color=palette.soft, lw=0.9, ls=(0, (2, 2)), zorder=1)
    if axes.get_xlim()[0] < axes.get_xlim()[1] * 0.6:
        axes.set_xlim(left=0)
    axes.set_title(title, fontsize=9, color=palette.soft, loc="left")
    axes.grid(False, axis="y")
