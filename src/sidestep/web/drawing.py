"""What the charts share: colours that follow the page, axes, names beside points, SVG and PNG.

Drawn with matplotlib's object interface, so no global figure is left behind. In SVG, colours are
CSS variables, so a chart follows the page into dark mode and onto paper.
"""

import hashlib
import io
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox


class Palette(NamedTuple):
    """The colours of a chart."""

    ink: str
    soft: str
    line: str
    paper: str
    accent: str


# matplotlib knows no CSS variables: these stand in for them and are exchanged in the text.
CSS = Palette(ink="#010203", soft="#010204", line="#010205", paper="#010209", accent="#010207")
KIND_COLOUR = {"target": "#010206", "ordinary": CSS.accent, "other": "#010208"}
VARIABLES = {
    CSS.ink: "var(--ink)", CSS.soft: "var(--soft)", CSS.line: "var(--line)",
    CSS.paper: "var(--paper)", **{colour: f"var(--{kind})" for kind, colour in KIND_COLOUR.items()},
}  # fmt: skip
# The colours of report.css on white, for pictures outside a page.
LIGHT = Palette(ink="#1c1d1f", soft="#5d6166", line="#dcdcd8", paper="#ffffff", accent="#1f5fa8")
STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: it can be selected, found and read aloud
    "text.parse_math": False,  # a dollar sign in a label is a dollar sign
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.unicode_minus": False,
}


class Point(NamedTuple):
    """A method in a chart of copies across and agreement upwards; shares lie in [0, 1]."""

    label: str
    copies: float
    low: float
    high: float
    agreement: float


def figure(width: float, height: float) -> Figure:
    """An empty figure of that size in inches."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="none")


def plain_axes(axes: Axes, palette: Palette) -> Axes:
    """The axes with a light grid and nothing else around them."""
    axes.set_facecolor("none")
    axes.grid(True, color=palette.line, lw=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(palette.line)
    axes.tick_params(colors=palette.soft, length=0, pad=5)
    axes.xaxis.label.set_color(palette.soft)
    axes.yaxis.label.set_color(palette.soft)
    return axes


def label(
    figure: Figure,
    axes: Axes,
    points: Sequence[Point],
    palette: Palette = CSS,
    others: Sequence[tuple[float, float]] = (),
) -> None:
    """Write each point's name near it, where it covers the least of what is drawn.

    `others` are points without a name that should not be covered either.
    """
    canvas = FigureCanvasAgg(figure)
    drawn: Any = canvas  # matplotlib leaves these methods untyped
    drawn.draw()
    renderer: Any = drawn.get_renderer()
    frame = axes.get_window_extent(renderer)
    taken = [t.get_window_extent(renderer) for t in axes.texts]
    for at in others:
        x, y = axes.transData.transform(at)
        taken.append(Bbox.from_bounds(x - 3, y - 3, 6, 6))
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
            text = _name(axes, p, *place, palette=palette, leader=False)
            box = Bbox.from_extents(*text.get_window_extent(renderer).extents)
            text.remove()
            cost = sum(_overlap(box, other) for other in taken) + 0.5 * abs(place[2])
            cost += 10 * (_area(box) - _overlap(box, frame))
            options.append((cost, place, box))
        _, place, box = min(options, key=lambda option: option[0])
        _name(axes, p, *place, palette=palette, leader=abs(place[2]) > 10)
        taken.append(box)


def _name(
    axes: Axes, p: Point, anchor: str, dx: float, dy: float, align: str, *, palette: Palette,
    leader: bool,
) -> Annotation:  # fmt: skip
    """A name beside its point, or beside the end of its interval."""
    at = p.high if anchor == "end" else p.copies
    line = {"arrowstyle": "-", "color": palette.soft, "lw": 0.6, "shrinkB": 4} if leader else None
    text = axes.annotate(
        p.label, (at, p.agreement), (dx, dy), textcoords="offset points", ha=align,
        va="center", color=palette.ink, fontsize=9, zorder=5, arrowprops=line,
    )  # fmt: skip
    text.set_in_layout(False)  # else a name would move the axes it was placed in
    return text


def _area(box: Bbox) -> float:
    return float(box.width * box.height)


def _overlap(a: Bbox, b: Bbox) -> float:
    both = Bbox.intersection(a, b)
    return _area(both) if both is not None else 0.0


def png(figure: Figure, palette: Palette = LIGHT) -> bytes:
    """The figure as the bytes of a PNG file, 150 dots per inch."""
    memory = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(memory, format="png", dpi=150, facecolor=palette.paper)
    return memory.getvalue()


def svg(figure: Figure, name: str) -> str:
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
