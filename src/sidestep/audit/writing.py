"""The files of a bundle, written last, the seal after everything else."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sidestep.audit import sums
from sidestep.audit.bundle import seal
from sidestep.audit.evidence import FILE, Evidence
from sidestep.audit.names import OBSERVED, PICTURES, RECORDS, generated
from sidestep.audit.reviewing import finish, set_aside
from sidestep.files import write
from sidestep.runs.marks import put
from sidestep.runs.records import Record, to_lines, unmeasured
from sidestep.runs.work import png
from sidestep.similarity.base import Images


def write_bundle(
    out: Path,
    work: Path,
    evidence: Evidence,
    training: Mapping[str, Images],
    records: Mapping[str, Sequence[Record]],
    present: Callable[[Path], object],
) -> None:
    """Write evidence, records, the pictures that it shows and its report, and seal them.

    An earlier bundle in the folder gives way. Its seal goes first, so that a half-written bundle
    never verifies. What people said of its exhibits stays if the evidence is the same, and is moved
    into `work` if not.

    Args:
        out: the bundle's folder.
        work: the audit's working state, with the generated pictures.
        evidence: goes into audit.json.
        training: training pictures (H, W, 3) by file of the bundle.
        records: by part of the audit.
        present: writes the report.
    """
    if (out / FILE).is_file():
        finish(out)  # a killed `sidestep review`, which fits the files that are there now
    (out / sums.NAME).unlink(missing_ok=True)
    for folder in (PICTURES, RECORDS):
        shutil.rmtree(out / folder, ignore_errors=True)
    for name, image in training.items():
        put(out, name, png(image))
    shown = {e.picture for one in evidence.findings for e in one.exhibits}
    for record in records[OBSERVED]:
        name = generated(record)
        if name in shown:
            put(out, name, (work / OBSERVED / record.image).read_bytes())
    for part, rows in records.items():
        put(out, evidence.records[part], to_lines(map(unmeasured, rows)).encode())
    write(out / FILE, evidence.to_bytes())
    set_aside(out)
    present(out)
    seal(out)
