"""Reviews put into a sealed bundle, and the bundle sealed again, whatever stops it.

Reviews, report and list change together. All three are first written beside the bundle and vouched
for by a mark; a command that was killed behind that point is finished by the next one, and one that
was killed before has changed nothing. So no state in between has to be guessed at, and what changed
in a bundle since it was sealed is never sealed anew.
"""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from sidestep import files
from sidestep.audit import bundle, review_file, reviews, sums
from sidestep.audit.evidence import Evidence
from sidestep.audit.reviews import Merged, Reviews
from sidestep.errors import BadBundle, BadRecords, BadReviews
from sidestep.runs import marks

STAGE = "review"  # below work/
MARK, LOCK = "done.json", "lock"
REPORT = "report.html"
FILES = (reviews.FILE, REPORT, sums.NAME)  # what changes, in the order in which it is put in place
# Writes the report of a bundle with these reviews into a file.
Present = Callable[[Path, Reviews, Path], object]


class Reviewed(NamedTuple):
    """A bundle with its reviews."""

    merged: Merged
    before: str  # hash of the bundle
    hash: str  # now


def review(folder: Path, paths: Sequence[Path], present: Present) -> Reviewed:
    """Put the reviews of files into a bundle, write its report with them and seal it.

    Raises:
        BadBundle: the folder is no bundle, is an edition, is signed, or is not as it was sealed.
        BadReviews: a file cannot be used, or another process works in the folder; nothing changed.
        OSError: a file cannot be written; run again.
    """
    if not (folder / sums.NAME).is_file():
        raise BadBundle(
            f"{folder} is no bundle: it has no {sums.NAME}; give the folder of an audit"
        )
    work = folder / sums.WORK
    for path in (work, work / LOCK, work / STAGE):
        if path.is_symlink():
            raise BadBundle(f"{path} is a link, and no part of a bundle is one; take it out")
    work.mkdir(exist_ok=True)
    try:
        with FileLock(work / LOCK, timeout=0):
            finish(folder)
            try:
                return _review(folder, paths, present)
            finally:
                _tidy(work)
    except Timeout as error:
        raise BadReviews(f"another process works in {folder}; wait for it") from error


def finish(folder: Path) -> None:
    """Do what a killed command had made ready, or forget what it had only begun."""
    stage = folder / sums.WORK / STAGE
    if not stage.is_dir():
        return
    for file in _ready(stage, reviews.digest(folder)):
        for left in filter(_is_temporary, folder.glob(f"{file.name}.*")):
            left.unlink()
        files.write(folder / file.name, marks.get(stage, file))
    shutil.rmtree(stage)


def _ready(stage: Path, done: str) -> list[marks.File]:
    """What was made ready; nothing if that is not whole.

    The bundle may have come with its folder work, from anybody: no other name is looked at.
    """
    try:
        rows = marks.files(stage, MARK, done)
    except BadRecords:
        return []
    ours = tuple(row.name for row in rows) == FILES
    return rows if ours and marks.holds(stage, MARK, done) else []


def _is_temporary(path: Path) -> bool:
    return files.is_temporary(path.name)


def set_aside(folder: Path) -> None:
    """Keep reviews of an earlier audit.json out of a bundle, in its folder work."""
    with suppress(BadReviews):
        reviews.read(folder)
        return
    name = hashlib.sha256((folder / reviews.FILE).read_bytes()).hexdigest()[:12]
    (folder / reviews.FILE).rename(folder / sums.WORK / f"reviews-{name}.json")


def _review(folder: Path, paths: Sequence[Path], present: Present) -> Reviewed:
    before = _as_sealed(folder)
    evidence, audit = Evidence.read(folder), reviews.digest(folder)
    if evidence.edition is not None:
        raise BadBundle(
            f"{folder} is a redacted edition, which shows no pictures to judge; review the full "
            "bundle, then make another edition"
        )
    known = set(reviews.exhibits(evidence))
    come = [one for path in paths for one in review_file.read(path, audit, known)]
    old = reviews.read(folder) or Reviews.of(audit, ())
    merged = reviews.merge(old, come)
    if merged.reviews == old:
        return Reviewed(merged, before, before)
    stage = folder / sums.WORK / STAGE
    rows = [marks.put(stage, reviews.FILE, merged.reviews.to_bytes())]
    present(folder, merged.reviews, stage / REPORT)
    rows.append(marks.file(stage, REPORT))
    listed = sums.from_bytes((folder / sums.NAME).read_bytes())
    listed |= {row.name: row.sha256 for row in rows}
    rows.append(marks.put(stage, sums.NAME, sums.to_bytes(listed)))
    marks.vouch(stage, MARK, audit, rows)
    finish(folder)
    return Reviewed(merged, before, rows[-1].sha256)


def _tidy(work: Path) -> None:
    """Remove the folder work where there is only the lock in it: the bundle came without one."""
    if [path.name for path in work.iterdir()] == [LOCK]:
        with suppress(OSError):  # Windows removes no open file
            # Whoever waits for this lock sees that it lost its name, and makes another.
            (work / LOCK).unlink()
            work.rmdir()


def _as_sealed(folder: Path) -> str:
    """The hash of a bundle that is as it was sealed and that nobody has signed."""
    for name in sums.SIGNATURES:
        if (folder / name).exists():
            raise BadBundle(
                f"{folder} was signed as it is; move {name} away, review, then sign again"
            )
    found = bundle.check(folder)
    if not found.holds:
        raise BadBundle(
            f"{folder} is not as it was sealed, and reviews would hide that: {found.problems[0]} "
            "`sidestep verify` lists all; put the files back, or audit again"
        )
    return found.hash
