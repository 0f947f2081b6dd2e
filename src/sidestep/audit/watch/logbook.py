"""The file of a watch: settings, what draws, calibration and reports, a JSON object per line.

A line is flushed to the disk before anybody is told of it. What a killed process left of a line is
dropped before the next one is written; a file of other settings is refused.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sidestep.audit.watch.report import Report
from sidestep.errors import BadRecords
from sidestep.files import write
from sidestep.similarity.calibration import Calibration

VERSION = 2  # of the lines


class Logbook:
    """What is known from earlier, and the file that keeps it; without a file only what is known.

    Attributes:
        calibration: of this run or the one that it goes on from.
        reports: by step, in the order in which they came.
    """

    def __init__(self, file: Path | None, settings: Mapping[str, Any]) -> None:
        """Read what an earlier process left; nothing is written yet.

        Raises BadRecords for a file of other settings, or one that holds something else.
        """
        self.calibration: Calibration | None = None
        self.reports = dict[int, Report]()
        self._drawn_by: dict[str, Any] | None = None
        self._file, self._begun = file, False
        self._whole: bytes | None = None  # what to keep of a file that ends in half a line
        self._settings = {"version": VERSION, **settings}
        if file is not None and file.is_file():
            self._read(file)

    def drawn_by(self, model: dict[str, Any]) -> None:
        """Keep what is known of the model that draws; BadRecords if it was another before."""
        if self._drawn_by is None:
            self._append({"model": model})
            self._drawn_by = model
        if differ := _differing(self._drawn_by, model):
            raise BadRecords(
                f"the pictures were drawn by another {' and '.join(differ)} "
                f"({_listed(self._drawn_by, differ)}) than now ({_listed(model, differ)}), and one "
                "curve cannot show both; give a pipeline like the earlier one, or another file"
            )

    def calibrated(self, calibration: Calibration, **about: Any) -> None:
        """Keep the calibration, and what is known `about` it."""
        self._append({"calibration": calibration.to_dict(), **about})
        self.calibration = calibration

    def reported(self, report: Report) -> None:
        """Keep a report."""
        self._append({"report": report.to_dict()})
        self.reports[report.step] = report

    def _append(self, row: Mapping[str, Any]) -> None:
        if self._file is None:
            return
        rows = [row] if self._begun else [{"settings": self._settings}, row]
        self._file.parent.mkdir(parents=True, exist_ok=True)
        # Not while reading: every process of a training reads, and only the first one writes.
        if self._whole is not None:
            write(self._file, self._whole)
            self._whole = None
        lines = "".join(json.dumps(r, ensure_ascii=False, allow_nan=False) + "\n" for r in rows)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        self._begun = True

    def _read(self, file: Path) -> None:
        whole, newline, cut = file.read_bytes().rpartition(b"\n")
        try:
            rows = [json.loads(line) for line in whole.split(b"\n")] if newline else []
            for number, row in enumerate(rows):
                if number == 0:
                    self._fit(file, row["settings"])
                elif "model" in row:
                    self._drawn_by = dict(row["model"])
                elif "calibration" in row:
                    self.calibration = Calibration.from_dict(row["calibration"])
                else:
                    report = Report.from_dict(row["report"])
                    self.reports[report.step] = report
        except (ValueError, KeyError, TypeError) as error:
            raise BadRecords(
                f"{file} is no file of a watch, or was changed ({error}); give another file"
            ) from error
        self._whole = whole + newline if cut else None
        self._begun = bool(rows)

    def _fit(self, file: Path, there: Mapping[str, Any]) -> None:
        if differ := _differing(there, self._settings):
            raise BadRecords(
                f"{file} is of a watch with other settings ({', '.join(differ)}), and one "
                "curve cannot show both; give another file"
            )


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    return sorted(k for k in {**one, **other} if one.get(k) != other.get(k))


def _listed(model: Mapping[str, Any], keys: Sequence[str]) -> str:
    return ", ".join(str(model.get(key)) for key in keys)
