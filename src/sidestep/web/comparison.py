"""The page of a comparison: one HTML file that opens offline, and its charts as pictures.

The same rules hold as for the report: no scripts, no outside address, all text escaped.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup
from matplotlib.figure import Figure

from sidestep.audit.marks import put
from sidestep.audit.records import write_atomic
from sidestep.bench import tables
from sidestep.bench.compare import CHANGED, Line, compare, load
from sidestep.web import curves, drawing, words
from sidestep.web.curves import Curve
from sidestep.web.page import environment

PAGE = "comparison.html"
PICTURES = {"copies": "curves.png", "each": "curves-each.png", "cost": "cost.png"}


class Alone(NamedTuple):
    """The chart of one method and the sentence under it."""

    name: str
    svg: Markup
    said: str


def write_comparison(folders: Sequence[Path], out: Path) -> dict[str, Path]:
    """Write the page and the pictures of run folders into the folder `out`; their paths by name.

    Raises BadRecords for folders that cannot be compared; earlier files are then left as they are.
    """
    header, records = load(folders)
    lines = compare(records)
    text = render(header, lines, records[0].recipe or "")
    figures = {
        "copies": curves.overview(lines),
        "each": curves.each(lines),
        "cost": curves.cost(lines),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        put(out, PICTURES[name], drawing.png(figure))
    write_atomic(out / PAGE, text)
    return {"page": out / PAGE, **{name: out / file for name, file in PICTURES.items()}}


def render(header: Mapping[str, Any], lines: Sequence[Line], recipe: str) -> str:
    """The page as text; the same comparison gives the same text."""
    css = drawing.CSS
    scenario = header.get("scenario")
    name = scenario.get("name") if isinstance(scenario, dict) else None
    page = environment().get_template("comparison.html.j2").render(
        title=f"Comparison: {name}" if name else "Comparison of methods",
        verdict=verdict(lines),
        meta=_meta(header, lines),
        kind=lines[0].kind,
        recipe=recipe,
        overview=_svg(curves.overview(lines, palette=css), "methods by copies and agreement"),
        similarity=_svg(
            curves.overview(lines, curves.similarity, css), "methods by similarity and agreement"
        ),
        alone=[
            Alone(c.name, _svg(curves.alone(c, lines, css), f"{c.name} before all"), _said(c))
            for c in curves.curves(lines)
        ],
        cost=_svg(curves.cost(lines, css), "cost and harm of each method"),
        heads=[c.heading for c in tables.COLUMNS],
        rows=[[c.cell(line) for c in tables.COLUMNS] for line in lines],
        best={x.rule for x in curves.best(lines)},
        legend=tables.LEGEND.format(kind=lines[0].kind, changed=CHANGED),
        limits=limits(lines),
    )  # fmt: skip
    return page.rstrip("\n") + "\n"


def verdict(lines: Sequence[Line]) -> list[str]:
    """The comparison in sentences, computed from its lines alone."""
    plain = next((x for x in lines if x.plain), None)
    made = [c for c in curves.curves(lines) if c.lines[0] is not plain]
    said = []
    if plain is not None:
        said.append(
            f"Plain guidance copies a training picture in {_share(plain)} of "
            f"{words.count(plain.images, 'image')}, and {words.percent(plain.agreement_r5)} show "
            "what the prompt says."
        )
    if made:
        good = max((x for c in made for x in c.lines), key=lambda x: x.good_share)
        said.append(
            f"Of {words.count(len(made), 'method')}, “{good.rule}” has the most good images, on "
            f"the prompt and no copy: {words.percent(good.good_share)}; "
            f"it copies in {_share(good)}."
        )
        first = made[0]
        said.append(
            f"Over its strengths “{first.name}” covers the largest area of copies and agreement, "
            f"{first.area:.2f} of 1."
        )
        if good.ordinary_r5 is not None and plain is not None and plain.ordinary_r5 is not None:
            said.append(
                f"On ordinary prompts “{good.rule}” agrees in {words.percent(good.ordinary_r5)}, "
                f"plain guidance in {words.percent(plain.ordinary_r5)}."
            )
    return said


def limits(lines: Sequence[Line]) -> list[str]:
    """What the numbers mean and do not mean, as sentences."""
    said = [
        "Intervals of shares are 95 % Clopper-Pearson bounds for independent images. Images of one "
        "prompt resemble each other, so the true uncertainty is wider.",
        "Differences to plain guidance are over the same seeds; their intervals draw prompts, and "
        "with few prompts they are a little narrow.",
        "Which method is best is told by the same images it is reported on. On new prompts expect "
        "it to do somewhat worse, and the more so the more methods and strengths were compared.",
        "Agreement says what a picture shows, not how well it is drawn.",
        "Seconds are those of the machine of the run; network evaluations hold anywhere.",
    ]
    counts = {x.images for x in lines}
    if len(counts) > 1:
        said.append(
            f"Not every method has the same number of images: {min(counts)} to {max(counts)}. "
            "Those with fewer have wider intervals."
        )
    return said


def _said(curve: Curve) -> str:
    rows = curve.lines
    strengths = words.count(len(rows), "strength")
    copies = [x.copy_share for x in rows]
    spread = words.percent(min(copies))
    if max(copies) > min(copies):
        spread += f" to {words.percent(max(copies))}"
    return f"Area {curve.area:.2f}; {strengths}, copies {spread}."


def _share(line: Line) -> str:
    low, high = words.percent(line.copy_low), words.percent(line.copy_high)
    return f"{words.percent(line.copy_share)} (95 % interval {low} to {high})"


def _meta(header: Mapping[str, Any], lines: Sequence[Line]) -> list[str]:
    scenario, model = header.get("scenario"), header.get("model")
    parts = [words.count(sum(x.images + x.ordinary_images for x in lines), "picture")]
    if isinstance(scenario, dict) and scenario.get("version") is not None:
        parts.append(f"scenario version {scenario['version']}")
    if isinstance(model, dict) and model.get("name"):
        parts.append(f"model {model['name']}")
    for key, form in (("seed", "seed {}"), ("steps", "{} steps"), ("scale", "scale {}")):
        if isinstance(header.get(key), int | float):
            parts.append(form.format(header[key]))
    return parts


def _svg(figure: Figure, name: str) -> Markup:
    return Markup(drawing.svg(figure, name))
