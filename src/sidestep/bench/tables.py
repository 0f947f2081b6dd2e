"""A comparison as text: cells for people, Markdown, CSV and JSON for programs."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from sidestep.audit import spreadsheet
from sidestep.bench.compare import Line


class Cells(NamedTuple):
    """A column for people: its heading, a cell from a line, and its place when room is short."""

    heading: str
    cell: Callable[[Line], str]
    place: int = 0  # 0 stays; the highest goes first


def percent(share: float | None) -> str:
    """A share as a number in %, `-` for none."""
    return "-" if share is None else f"{100 * share:.0f}"


def interval(middle: float, low: float, high: float) -> str:
    """A share in % with its bounds."""
    return f"{percent(middle)} [{percent(low)}, {percent(high)}]"


def change(name: str) -> Callable[[Line], str]:
    """The change of a share against plain guidance, in points of %, with its interval."""

    def cell(line: Line) -> str:
        if line.against_plain is None:
            return "-"
        values = [100 * v for v in line.against_plain[name]]
        return f"{values[0]:+.0f} [{values[1]:+.0f}, {values[2]:+.0f}]"

    return cell


COLUMNS = (
    Cells("rule", lambda x: x.rule),
    Cells("n", lambda x: str(x.images), 5),
    Cells("copies", lambda x: interval(x.copy_share, x.copy_low, x.copy_high)),
    Cells("good", lambda x: percent(x.good_share)),
    Cells("R@1", lambda x: percent(x.agreement_r1), 4),
    Cells("R@5", lambda x: percent(x.agreement_r5), 1),
    Cells("similarity mean/p95", lambda x: f"{x.similarity_mean:.2f}/{x.similarity_p95:.2f}", 8),
    Cells("diversity", lambda x: "-" if x.diversity is None else f"{x.diversity:.2f}", 9),
    Cells("ordinary changed", lambda x: percent(x.ordinary_changed), 2),
    Cells("ordinary R@5", lambda x: percent(x.ordinary_r5), 3),
    Cells("NFE", lambda x: f"{x.nfe:.0f}", 4),
    Cells("backward", lambda x: f"{x.backward:.0f}" if x.backward else "-", 6),
    Cells("reached", lambda x: percent(x.reached), 7),
    Cells("s/image", lambda x: f"{x.seconds:.2f}", 7),
    Cells("MB", lambda x: "-" if x.memory is None else f"{x.memory / 1e6:.0f}", 6),
    Cells("copies against plain", change("copy_share"), 10),
    Cells("good against plain", change("good_share"), 11),
)
LEGEND = (
    "n images of {kind} prompts; copies, good and R@k in %, copies with their 95 % interval;\n"
    "ordinary changed: % of ordinary prompts' images over {changed} away from plain guidance's;\n"
    "against plain: difference in points over the same seeds, 95 % bootstrap over prompts"
)


def rows(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """The lines as JSON objects, every number in full."""
    result = []
    for line in lines:
        row = asdict(line)
        if line.against_plain is not None:
            row["against_plain"] = {k: v._asdict() for k, v in line.against_plain.items()}
        result.append(row)
    return result


def to_markdown(lines: Sequence[Line]) -> str:
    """A Markdown table."""
    heads = [c.heading for c in COLUMNS]
    table = [heads, ["---", *("---:" for _ in heads[1:])]]
    table += [[c.cell(line).replace("|", "\\|") for c in COLUMNS] for line in lines]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in table)


def to_csv(lines: Sequence[Line]) -> str:
    """A CSV table, every number in full; a label that a spreadsheet would run is defused."""
    flat = [_flat(row) for row in rows(lines)]
    names = list(dict.fromkeys(k for r in flat for k in r))
    return spreadsheet.to_csv(names, [[row.get(name) for name in names] for row in flat])


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    changes = row.pop("against_plain") or {}
    inner = {f"{name}_change_{k}": v for name, c in changes.items() for k, v in c.items()}
    return row | inner
