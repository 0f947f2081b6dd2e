"""CSV files that a spreadsheet may open: a cell is shown and never evaluated.

A program that opens a CSV file takes a cell for a formula by its first character, quoted or not. A
prompt may begin with one, so such text gets an apostrophe in front, which spreadsheets read as
"this is text". Source: OWASP, CSV injection.
"""

import csv
from collections.abc import Iterable, Sequence
from io import StringIO

Cell = str | int | float | bool | None
# The last four are the full-width forms of the first four.
STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\t", "\r", "\n")


def safe(cell: Cell) -> Cell:
    """Text that a spreadsheet would evaluate, defused; numbers and other text as they are."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(STARTS) else cell


def to_csv(headings: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """The text of a CSV file, every cell safe; None becomes an empty cell."""
    text = StringIO(newline="")
    # All text in quotes: otherwise a carriage return inside of a cell would end its row.
    table = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    table.writerow([safe(h) for h in headings])
    table.writerows([safe(cell) for cell in row] for row in rows)
    return text.getvalue()
