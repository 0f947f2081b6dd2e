"""A run folder as the pages need it: records by rule, header, traces, pictures, summary.

Reads the folder described in `sidestep.runs.records` and nothing else. What a run may leave out
(scores, traces, parts of run.json) is absent here too, with a sentence in `Run.notes` that says so.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from sidestep.errors import BadRecords
from sidestep.runs import records as audit
from sidestep.runs.records import Record
from sidestep.runs.summary import is_scored, summarise
from sidestep.sampling.trace import Trace
from sidestep.web import pictures
from sidestep.web.pictures import inside

THUMBNAIL = 192  # pixels; larger pictures are shrunk to this before they are inlined
Summary = dict[str, dict[str, dict[str, Any]]]


class Line(NamedTuple):
    """One prompt through every rule: the pictures of one draw."""

    prompt: str
    kind: str
    training: str | None  # picture file, relative to the run folder
    cells: dict[str, Record | None]  # by rule; None where the rule lacks this prompt


@dataclass(frozen=True)
class Run:
    """A run folder, read."""

    folder: Path
    header: dict[str, Any]  # run.json, {} where there is none
    records: dict[str, list[Record]]  # by rule, in the order in which the rules first occur
    traces: dict[str, Trace]  # by rule; column i belongs to records[rule][i]
    summary: Summary  # of the scored records, {} where none are
    notes: list[str]  # sentences about what is missing

    @property
    def rules(self) -> list[str]:
        """Labels of the rules."""
        return list(self.records)

    @property
    def every(self) -> list[Record]:
        """All records."""
        return [r for rows in self.records.values() for r in rows]

    def lines(self, kind: str) -> list[Line]:
        """One line per prompt of a kind, in the order of the run, with the first draw of each."""
        first: dict[str, dict[str, Record]] = {}
        for rule, rows in self.records.items():
            for record in rows:
                if record.kind == kind:
                    first.setdefault(record.prompt, {}).setdefault(rule, record)
        memorized = _references(self.header)
        result = []
        for prompt, cells in first.items():
            found = [r.nearest_image for r in cells.values() if r.nearest_image]
            training = memorized.get(prompt) or (found[0] if found else None)
            result.append(Line(prompt, kind, training, {r: cells.get(r) for r in self.records}))
        return result

    def picture(self, name: str) -> Image.Image:
        """A picture of the run, decoded, RGB; raises BadRecords where it is absent or damaged."""
        with pictures.opened(self.folder, name) as image:
            return image.convert("RGB")

    def data_uri(self, name: str) -> str:
        """A picture of the run as a data: URI, at most THUMBNAIL pixels high and wide."""
        return pictures.data_uri(self.folder, name, THUMBNAIL)


def load(folder: Path) -> Run:
    """Read a run folder; raises BadRecords for records, a header or a path that cannot be used."""
    folder = Path(folder)
    rows: dict[str, list[Record]] = {}
    for record in audit.read(folder / "records.jsonl"):
        rows.setdefault(record.rule, []).append(record)
    notes: list[str] = []
    header = _header(folder / "run.json", notes)
    traces = _traces(folder, header, rows, notes)
    everything = [r for group in rows.values() for r in group]
    scored = [r for r in everything if is_scored(r)]
    if 0 < len(scored) < len(everything):
        notes.append(
            f"{len(everything) - len(scored)} of {len(everything)} pictures have no scores; "
            "they are shown, but not counted in any number."
        )
    return Run(folder, header, rows, traces, summarise(scored) if scored else {}, notes)


def _header(path: Path, notes: list[str]) -> dict[str, Any]:
    if not path.is_file():
        notes.append(
            "The run has no run.json, so its settings, versions and calibration are not known."
        )
        return {}
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadRecords(
            f"{path} cannot be read ({error}); it should be the JSON header of a run. Restore it, "
            "or delete it to report without settings"
        ) from error
    if not isinstance(header, dict):
        raise BadRecords(
            f"{path} holds a JSON {type(header).__name__}; a run's header is an object"
        )
    return header


def _references(header: dict[str, Any]) -> dict[str, str]:
    """The memorized picture of each caption."""
    rows = header.get("references")
    return {
        r["caption"]: r["image"]
        for r in (rows.values() if isinstance(rows, dict) else [])
        if isinstance(r, dict) and r.get("caption") and r.get("image")
    }


def _trace_files(header: dict[str, Any], rules: Sequence[str]) -> dict[str, str]:
    """The trace file of each rule: as the header says, else the label as a file name."""
    slugs = {rule: re.sub(r"[^a-z0-9]+", "-", rule.lower()).strip("-") for rule in rules}
    files = {rule: f"traces/{slug}.safetensors" for rule, slug in slugs.items()}
    listed = header.get("rules")
    for row in listed if isinstance(listed, list) else []:
        if isinstance(row, dict) and row.get("rule") in files and row.get("trace"):
            files[row["rule"]] = str(row["trace"])
    return files


def _traces(
    folder: Path, header: dict[str, Any], rows: dict[str, list[Record]], notes: list[str]
) -> dict[str, Trace]:
    traces = {}
    for rule, name in _trace_files(header, list(rows)).items():
        path = inside(folder, name)
        if not path.is_file():
            notes.append(f"No gap curves for “{rule}”: the run has no file {name}.")
            continue
        try:
            trace = Trace.load(path)
        except BadRecords:
            notes.append(f"No gap curves for “{rule}”: {name} is not a complete trace file.")
            continue
        count = len(rows[rule])
        if trace.gap.shape != (len(trace.time), count) or trace.transition.shape != (count,):
            notes.append(
                f"No gap curves for “{rule}”: {name} has {trace.gap.shape[-1]} samples and the "
                f"records have {count}, so they cannot be matched."
            )
            continue
        traces[rule] = trace
    return traces
