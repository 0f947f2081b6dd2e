"""docs/metrics.md says of presets and papers what the code does."""

import re
from pathlib import Path

from sidestep.similarity import aggregates
from sidestep.similarity.preprocess import HALF, IMAGENET
from sidestep.similarity.sscd_published import PAPERS, PRESETS

PAGE = (Path(__file__).parents[2] / "docs/metrics.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.splitlines() if "|" in line
]


def test_the_table_of_presets_is_the_code():
    shown = {
        row[0].strip("`"): row for row in ROWS if row[0].strip("`") in PRESETS and len(row) == 4
    }
    assert shown.keys() == PRESETS.keys()
    for name, how in PRESETS.items():
        _, resize, crop, normal = shown[name]
        assert str(how.side) in resize
        assert how.fit.replace("-", " ") in resize
        assert crop == ("none" if how.crop is None else f"centre {how.crop}")
        assert {"I": IMAGENET, "0": HALF}[normal[0]] == (how.mean, how.std)


def test_the_table_of_papers_is_the_code():
    shown = {}
    for row in ROWS:
        if len(row) == 3 and row[1].startswith("`disc_"):
            for paper in re.findall(r"`([\w-]+)`", row[0]):
                shown[paper] = (row[1].strip("`"), row[2].strip("`"))
    assert shown == PAPERS


def test_every_aggregate_of_the_page_exists():
    section = PAGE.split("## Aggregates")[1].split("## Intervals")[0]
    names = re.findall(r"^\| `(\w+)`(?:, `(\w+)`)?", section, flags=re.MULTILINE)
    found = [name for pair in names for name in pair if name]
    assert len(found) == 9
    assert all(callable(getattr(aggregates, name)) for name in found)
