"""What others published about the methods of a run, beside what the run found.

Their numbers were measured with recipes of their own, and often nobody says which. So they stand
beside ours with both recipes named, and never in one column.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from sidestep.bench.compare import Line
from sidestep.bench.scenario import Published, PublishedRow
from sidestep.errors import BadRecords


class Beside(NamedTuple):
    """One published number and ours."""

    rule: str  # the row of our table; the published method's name where the run lacks it
    number: str  # similarity_p95, clip or fid
    published: float
    measured_by: str  # what measured the published number
    ours: float | None  # None where the run did not measure it
    ours_by: str | None
    confidence: str  # in the published number: high, medium or low
    note: str


def of_header(header: Mapping[str, Any]) -> Published | None:
    """The published numbers in a run header; BadRecords for some that cannot be read."""
    given = header.get("published")
    try:
        return None if given is None else msgspec.convert(given, Published)
    except (msgspec.ValidationError, ValueError) as error:
        raise BadRecords(
            f"the published numbers in run.json cannot be read ({error}); they are those of the "
            "scenario: run it once more to write them"
        ) from error


def row_of(line: Line, published: Published | None) -> PublishedRow | None:
    """The published row of a line: of its own label, or of its method at any strength."""
    rows = published.rows if published is not None else ()
    named = [r for name in (line.rule, line.curve) for r in rows if r.method == name]
    return named[0] if named else None


def beside(lines: Sequence[Line], published: Published) -> list[Beside]:
    """Every published number beside ours, by the order in which they were published."""
    result = []
    for row in published.rows:
        own: list[Line | None] = [x for x in lines if row_of(x, published) is row]
        for line in own or [None]:
            for number, value in row.values.items():
                ours, ours_by = _ours(line, number)
                rule = row.method if line is None else name(line)
                result.append(
                    Beside(
                        rule, number, value, published.recipes[number], ours, ours_by,
                        row.confidence, row.note,
                    )
                )  # fmt: skip
    return result


def name(line: Line) -> str:
    """A line as people tell it from all others."""
    return line.rule if line.form is None else f"{line.rule}, {line.form}"


def _ours(line: Line | None, number: str) -> tuple[float | None, str | None]:
    if line is None:
        return None, None
    if number == "similarity_p95":
        return line.similarity_p95, line.recipe
    if number == "clip" and line.text:
        recipe, value = next(iter(line.text.items()))
        return value, recipe
    return None, None
