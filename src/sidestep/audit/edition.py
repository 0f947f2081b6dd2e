"""The folder of a redacted edition, made from that of a full bundle."""

import hashlib
import json
import os
from pathlib import Path

from PIL import Image

from sidestep.audit import reviews, sums
from sidestep.audit.blurred import blurred, png
from sidestep.audit.evidence import FILE, Evidence
from sidestep.audit.redact import Mode, Redaction
from sidestep.errors import BadRecords, SidestepError
from sidestep.files import write
from sidestep.runs import records


def write_edition(bundle: Path, out: Path, mode: Mode) -> Path:
    """Write audit.json, records and, blurred, the pictures of an edition; seals nothing.

    Args:
        bundle: a sealed bundle; is not changed.
        out: a folder that is empty or not there.
        mode: blur or hashes.

    Returns:
        The file beside `out` that opens the commitments of the edition. It belongs to the owner of
        the full bundle, and only they can read it.

    Raises:
        BadRecords: the bundle is not sealed, an edition itself, or a file of it cannot be used.
        SidestepError: `out` holds something, or lies inside the bundle.
    """
    bundle, out = bundle.resolve(), out.resolve()
    _check(bundle, out)
    full = Evidence.read(bundle)
    said = reviews.read(bundle)
    parts = {name: records.read(inside(bundle, name)) for name in full.records.values()}
    redaction = Redaction(mode, full, {r.prompt for rows in parts.values() for r in rows})
    edition = redaction.evidence(full, _sha256(bundle / sums.NAME))
    out.mkdir(parents=True, exist_ok=True)
    openings = openings_of(out)
    # Reserved before anything is written, and readable for the owner alone.
    os.close(os.open(openings, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    for name, rows in parts.items():
        done = map(redaction.record, rows)
        text = "".join(json.dumps(r, ensure_ascii=False, allow_nan=False) + "\n" for r in done)
        _put(out, name, text.encode())
    for source, target in redaction.pictures.items():
        _put(out, target, _blurred(inside(bundle, source)))
    write(out / FILE, edition.to_bytes())
    if said is not None:
        _put(out, reviews.FILE, redaction.reviews(said, reviews.digest(out)).to_bytes())
    with openings.open("w", encoding="utf-8", errors="surrogatepass") as file:
        file.write(redaction.concealed.openings())
    return openings


def openings_of(out: Path) -> Path:
    """The file beside an edition that opens its commitments."""
    return out.with_name(f"{out.name}.openings.jsonl")


def inside(folder: Path, name: str) -> Path:
    """A file that the evidence names; BadRecords where it leaves the folder."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder):
        raise BadRecords(
            f"{folder / FILE} names the file {name!r}, which lies outside the bundle; audit again"
        )
    return path


def _check(bundle: Path, out: Path) -> None:
    if not (bundle / sums.NAME).is_file():
        raise BadRecords(
            f"{bundle} has no {sums.NAME}, so it is no finished bundle that an edition could name; "
            "run the audit to its end first"
        )
    if out.is_relative_to(bundle):
        raise SidestepError(
            f"{out} lies inside the bundle, whose seal would then break; give a folder beside it"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SidestepError(
            f"{out} is not empty; an edition starts in an empty folder, so that nothing else is "
            "handed over with it. Give another --out"
        )
    if openings_of(out).exists():
        raise SidestepError(
            f"{openings_of(out)} is there and opens an earlier edition; move it away, or give "
            "another --out"
        )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _put(folder: Path, name: str, data: bytes) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    write(folder / name, data)


def _blurred(path: Path) -> bytes:
    try:
        with Image.open(path, formats=["PNG", "JPEG", "WEBP"]) as image:
            return png(blurred(image))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadRecords(
            f"{path} is named in {FILE} but is not a picture that can be read ({error}); put the "
            "file back, or audit again"
        ) from error
