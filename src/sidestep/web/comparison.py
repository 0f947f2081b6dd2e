"""The page of a comparison: one HTML file that opens offline, and its charts as pictures.

The same rules hold as for the report: no scripts, no outside address, all text escaped.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup
from matplotlib.figure import Figure

from sidestep.bench import tables
from sidestep.bench.compare import CHANGED, Line, compare, load
from sidestep.bench.published import beside, of_header
from sidestep.runs.marks import put
from sidestep.web import curves, drawing, words
from sidestep.web.axes import SIMILARITY, agreement
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

    Where prompts differ in form each form has files of its own, with its name in theirs: a point
    over both would say nothing. Raises BadRecords for folders that cannot be compared; earlier
    files are then left as they are.
    """
    header, records = load(folders)
    every = compare(records)
    made: dict[str, tuple[str, bytes]] = {}  # by what it is, its file name and content
    for form in dict.fromkeys(x.form for x in every):
        lines = [x for x in every if x.form == form]
        mark = f"-{form or 'other'}" if len(lines) < len(every) else ""
        figures = {
            "copies": curves.overview(lines),
            "each": curves.each(lines),
            "cost": curves.cost(lines),
        }
        made[f"page{mark}"] = _marked(PAGE, mark), render(header, lines).encode()
        for name, figure in figures.items():
            made[name + mark] = _marked(PICTURES[name], mark), drawing.png(figure)
    out.mkdir(parents=True, exist_ok=True)
    for file, data in made.values():
        put(out, file, data)
    return {name: out / file for name, (file, _) in made.items()}


def _marked(file: str, mark: str) -> str:
    """`curves.png` to `curves-verbatim.png`."""
    return f"{Path(file).stem}{mark}{Path(file).suffix}"


def render(header: Mapping[str, Any], lines: Sequence[Line]) -> str:
    """The page as text; the same comparison gives the same text."""
    css = drawing.CSS
    scenario = header.get("scenario")
    name = scenario.get("name") if isinstance(scenario, dict) else None
    up, shown, published = agreement(lines), tables.columns(lines), of_header(header)
    theirs = [] if published is None else beside(lines, published)
    page = environment().get_template("comparison.html.j2").render(
        title=f"Comparison: {name}" if name else "Comparison of methods",
        verdict=verdict(lines),
        meta=_meta(header, lines),
        kind=lines[0].kind,
        form=lines[0].form,
        recipe=lines[0].recipe,
        up=up,
        overview=_svg(curves.overview(lines, palette=css), "methods by copies and agreement"),
        similarity=_svg(
            curves.overview(lines, SIMILARITY, css), "methods by similarity and agreement"
        ),
        alone=[
            Alone(c.name, _svg(curves.alone(c, lines, css), f"{c.name} before all"), _said(c))
            for c in curves.curves(lines)
        ],
        cost=_svg(curves.cost(lines, css), "cost and harm of each method"),
        heads=[c.heading for c in shown],
        rows=[[c.cell(line) for c in shown] for line in lines],
        best={x.rule for x in curves.best(lines)},
        legend=tables.legend(lines, CHANGED),
        published=published,
        published_heads=tables.PUBLISHED,
        published_rows=tables.published_cells(theirs),
        published_notes=tables.published_notes(theirs),
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
            f"{words.count(plain.images, 'image')}{_agreeing(plain)}."
        )
    if made:
        methods = words.count(len(made), "method")
        rows = [x for c in made for x in c.lines]
        if all(x.good_share is not None for x in rows):
            best = max(rows, key=lambda x: x.good_share or 0.0)
            said.append(
                f"Of {methods}, “{best.rule}” has the most good images, on the prompt and no "
                f"copy: {words.percent(best.good_share or 0.0)}; it copies in {_share(best)}."
            )
        else:
            best = min(rows, key=lambda x: x.copy_share)
            said.append(
                f"Of {methods}, “{best.rule}” copies least, in {_share(best)} of its "
                f"images{_agreeing(best)}."
            )
        first = made[0]
        said.append(
            f"Over its strengths “{first.name}” covers the largest area of copies and agreement, "
            f"{first.area:.2f} of 1."
        )
        if best.ordinary_r5 is not None and plain is not None and plain.ordinary_r5 is not None:
            said.append(
                f"On ordinary prompts “{best.rule}” agrees in {words.percent(best.ordinary_r5)}, "
                f"plain guidance in {words.percent(plain.ordinary_r5)}."
            )
    return said


def _agreeing(line: Line) -> str:
    """How well a line's pictures fit their prompts, as the end of a sentence."""
    if line.agreement_r5 is not None:
        return f", and {words.percent(line.agreement_r5)} show what the prompt says"
    scores = ", ".join(f"{value:.3f} ({name})" for name, value in line.text.items())
    return f", with a mean image-text score of {scores}" if scores else ""


def limits(lines: Sequence[Line]) -> list[str]:
    """What the numbers mean and do not mean, as sentences."""
    said = [
        "Intervals of shares are 95 % Clopper-Pearson bounds for these prompts. Images of one "
        "prompt resemble each other, so for other prompts the uncertainty is wider.",
        "Differences to plain guidance are over the same seeds; their intervals draw prompts, and "
        "with few prompts they are a little narrow.",
        "Which method is best is told by the same images it is reported on. On new prompts expect "
        "it to do somewhat worse, and the more so the more methods and strengths were compared.",
        "Agreement says what a picture shows, not how well it is drawn. Memorized pictures fit "
        "their captions unnaturally well, so it must fall a little where copies stop.",
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
    if lines[0].form is not None:
        parts.append(f"{lines[0].form} prompts only")
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
