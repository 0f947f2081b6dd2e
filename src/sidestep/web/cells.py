"""The grid of the report: which pictures it shows, and the words at each.

A prompt is a row, the training picture and the rules are its cells. Pictures are inlined, so only
so many are shown; the rest is counted.
"""

from typing import NamedTuple

from sidestep.runs.records import Record
from sidestep.web import words
from sidestep.web.run import Line, Run

OPEN_ROWS = 8  # prompts of the grid that show at once
MAX_PICTURES = 420  # inlined at most, which keeps a report under about 10 MB


class Cell(NamedTuple):
    """A picture of the grid. `src` is a data: URI, None for a picture that was not made."""

    head: str
    src: str | None
    alt: str
    note: str
    copy: bool


class Row(NamedTuple):
    """A prompt of the grid."""

    prompt: str
    cells: list[Cell]


class Grid(NamedTuple):
    """The prompts of one kind: some open, some behind a fold, the rest only counted."""

    kind: str
    heads: list[str]
    open: list[Row]
    folded: list[Row]
    total: int
    training: bool  # whether the first column shows training pictures


def grids(run: Run) -> list[Grid]:
    """The grids of the kinds a run has, the headline kind first."""
    every = {kind: run.lines(kind) for kind in words.KINDS}
    every = {kind: lines for kind, lines in every.items() if lines}
    left = MAX_PICTURES // (len(run.rules) + 1)
    result = []
    for place, (kind, lines) in enumerate(every.items()):
        most = left - OPEN_ROWS * (len(every) - 1) if place == 0 else OPEN_ROWS
        shown = lines[: max(1, min(most, left))]
        left = max(1, left - len(shown))
        training = any(line.training for line in shown)
        rows = [_row(run, line, training) for line in shown]
        split = OPEN_ROWS if place == 0 else 0
        heads = [*(["training picture"] if training else []), *run.rules]
        result.append(Grid(kind, heads, rows[:split], rows[split:], len(lines), training))
    return result


def _row(run: Run, line: Line, training: bool) -> Row:
    cells = []
    if training:
        src = run.data_uri(line.training) if line.training else None
        cells.append(
            Cell("training picture", src, f"training picture of “{line.prompt}”", "", False)
        )
    cells += [_cell(run, rule, record) for rule, record in line.cells.items()]
    return Row(line.prompt, cells)


def _cell(run: Run, rule: str, record: Record | None) -> Cell:
    if record is None:
        return Cell(rule, None, f"{rule}: not made", "", False)
    similarity = record.similarity.get(record.recipe or "")
    if similarity is None:
        note = f"on at {record.transition_time:.2f}" if record.transition_time is not None else ""
        if record.opened_by == "never":
            note = "never on"
        return Cell(rule, run.data_uri(record.image), f"{rule}: {record.prompt}", note, False)
    word = "copy" if record.copy else "no copy"
    alt = f"{rule}: {word}, similarity {similarity:.2f} to training picture {record.nearest}"
    return Cell(rule, run.data_uri(record.image), alt, f"{similarity:.2f}", bool(record.copy))
