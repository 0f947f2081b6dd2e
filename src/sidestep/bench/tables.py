"""A comparison as text: cells for people, Markdown, CSV and JSON for programs."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import msgspec

from sidestep.bench.compare import Line
from sidestep.bench.published import Beside, beside, row_of
from sidestep.bench.scenario import Published
from sidestep.runs import spreadsheet


class Cells(NamedTuple):
    """A column for people: its heading, a cell from a line, and its place when room is short."""

    heading: str
    cell: Callable[[Line], str]
    place: int = 0  # 0 stays; the highest goes first


def percent(share: float | None) -> str:
    """A share as a number in %, `-` for none."""
    return "-" if share is None else f"{100 * share:.0f}"


def number(value: float | None, digits: int = 2) -> str:
    """A number, `-` for none."""
    return "-" if value is None else f"{value:.{digits}f}"


def interval(middle: float, low: float, high: float) -> str:
    """A share in % with its bounds."""
    return f"{percent(middle)} [{percent(low)}, {percent(high)}]"


def change(name: str) -> Callable[[Line], str]:
    """The change of a share against plain guidance, in points of %, with its interval."""

    def cell(line: Line) -> str:
        if line.against_plain is None or name not in line.against_plain:
            return "-"
        values = [100 * v for v in line.against_plain[name]]
        return f"{values[0]:+.0f} [{values[1]:+.0f}, {values[2]:+.0f}]"

    return cell


def text(recipe: str) -> Callable[[Line], str]:
    """The mean of an image-text recipe."""
    return lambda line: number(line.text.get(recipe), 3)


def columns(lines: Sequence[Line]) -> list[Cells]:
    """The columns for people; an image-text recipe has its own.

    Columns of forms, of own pictures and of ordinary prompts are left out where no line has any.
    """
    # Where no agreement is known similarity says the most, and goes last when room is short.
    place = 8 if any(x.good_share is not None for x in lines) else 1
    return [
        Cells("rule", lambda x: x.rule),
        *(FORM if any(x.form for x in lines) else ()),
        Cells("n", lambda x: str(x.images), 5),
        Cells("copies", lambda x: interval(x.copy_share, x.copy_low, x.copy_high)),
        Cells("good", lambda x: percent(x.good_share)),
        Cells("R@1", lambda x: percent(x.agreement_r1), 4),
        Cells("R@5", lambda x: percent(x.agreement_r5), 1),
        *(Cells(name, text(name), 1) for name in recipes(lines)),
        Cells(
            "similarity mean/p95",
            lambda x: f"{x.similarity_mean:.2f}/{x.similarity_p95:.2f}",
            place,
        ),
        *(OWN if any(x.own for x in lines) else ()),
        Cells("diversity", lambda x: number(x.diversity), 9),
        *(ORDINARY if any(x.ordinary_images for x in lines) else ()),
        Cells("NFE", lambda x: f"{x.nfe:.0f}", 4),
        Cells("backward", lambda x: f"{x.backward:.0f}" if x.backward else "-", 6),
        Cells("reached", lambda x: percent(x.reached), 7),
        Cells("s/image", lambda x: f"{x.seconds:.2f}", 7),
        Cells("MB", lambda x: "-" if x.memory is None else f"{x.memory / 1e6:.0f}", 6),
        Cells("copies against plain", change("copy_share"), 10),
        Cells("good against plain", change("good_share"), 11),
    ]


def _own(*names: str) -> Callable[[Line], str]:
    def cell(line: Line) -> str:
        return "/".join(number(getattr(line.own, n)) for n in names) if line.own else "-"

    return cell


FORM = (Cells("form", lambda x: x.form or "-"),)
OWN = (
    Cells("own similarity mean/p95", _own("mean", "p95"), 8),
    Cells("own copies", lambda x: percent(x.own.share if x.own else None), 8),
)
ORDINARY = (
    Cells("ordinary changed", lambda x: percent(x.ordinary_changed), 2),
    Cells("ordinary R@5", lambda x: percent(x.ordinary_r5), 3),
)


def recipes(lines: Sequence[Line]) -> list[str]:
    """The image-text recipes of a comparison."""
    return list(dict.fromkeys(name for line in lines for name in line.text))


PUBLISHED = ("rule", "number", "published", "here", "confidence")


def published_cells(rows: Sequence[Beside]) -> list[list[str]]:
    """Published numbers and ours, the cells of the columns PUBLISHED."""
    return [[r.rule, r.number, f"{r.published:.4g}", number(r.ours, 4), r.confidence] for r in rows]


def published_notes(rows: Sequence[Beside]) -> list[str]:
    """By what each number was measured there and here, and what is said of each row."""
    here = {r.number: r.ours_by for r in rows if r.ours_by is not None}
    measured = dict.fromkeys(
        f"{r.number}: published with {r.measured_by}; here with {here.get(r.number, 'nothing')}"
        for r in rows
    )
    return [*measured, *dict.fromkeys(f"{r.rule}: {r.note}" for r in rows if r.note)]


LEGEND = (
    "n images of {kind} prompts; copies, good and R@k in %, copies with their 95 % interval;\n"
    "similarity is {recipe}, a copy is above {threshold:.3g};\n"
    "own: to the closest of the prompt's own training pictures, mean over prompts, copies in %;\n"
    "ordinary changed: % of ordinary prompts' images over {changed} away from plain guidance's;\n"
    "against plain: difference in points over the same seeds, 95 % bootstrap over prompts"
)


def legend(lines: Sequence[Line], changed: float) -> str:
    """What the columns mean."""
    first = lines[0]
    return LEGEND.format(
        kind=first.kind, recipe=first.recipe, threshold=first.threshold, changed=changed
    )


def rows(lines: Sequence[Line], published: Published | None = None) -> list[dict[str, Any]]:
    """The lines as JSON objects, every number in full, with what was published of each."""
    result = []
    for line in lines:
        row = asdict(line)
        row["own"] = None if line.own is None else line.own._asdict()
        if line.against_plain is not None:
            row["against_plain"] = {k: v._asdict() for k, v in line.against_plain.items()}
        theirs = row_of(line, published)
        row["published"] = None
        if published is not None and theirs is not None:
            recipes = {k: published.recipes[k] for k in theirs.values}
            about = {"table": published.table, "recipes": recipes}
            row["published"] = about | msgspec.to_builtins(theirs)
        result.append(row)
    return result


def to_markdown(lines: Sequence[Line], published: Published | None = None) -> str:
    """A Markdown table, and one of the published numbers under it."""
    shown = columns(lines)
    made = _markdown([c.heading for c in shown], [[c.cell(line) for c in shown] for line in lines])
    if published is None:
        return made
    theirs = beside(lines, published)
    notes = "".join(f"- {said}\n" for said in published_notes(theirs))
    head = f"\n{published.table}, as published and here:\n\n"
    return made + head + _markdown(PUBLISHED, published_cells(theirs)) + "\n" + notes


def _markdown(heads: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    table = [heads, ["---", *("---:" for _ in heads[1:])], *body]
    safe = [[cell.replace("|", "\\|") for cell in cells] for cells in table]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in safe)


def to_csv(lines: Sequence[Line], published: Published | None = None) -> str:
    """A CSV table, every number in full; a label that a spreadsheet would run is defused."""
    flat = [_flat(row) for row in rows(lines, published)]
    names = list(dict.fromkeys(k for r in flat for k in r))
    return spreadsheet.to_csv(names, [[row.get(name) for name in names] for row in flat])


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    changes, theirs = row.pop("against_plain") or {}, row.pop("published") or {}
    own, texts = row.pop("own") or {}, row.pop("text")
    inner = {f"own_{name}": value for name, value in own.items()}
    inner |= texts
    inner |= {f"{name}_change_{k}": v for name, c in changes.items() for k, v in c.items()}
    if theirs:
        inner |= {f"published_{name}": v for name, v in theirs["values"].items()}
        inner["published_confidence"] = theirs["confidence"]
    return row | inner
