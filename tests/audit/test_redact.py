"""Redacted editions: nothing of what they conceal is left anywhere in them."""

import base64
import hashlib
import io
import json
import re
import stat
import sys
from dataclasses import fields
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image
from web.bundles import changed, evidence, finding, sha, write

from sidestep.audit.blurred import LEVELS, NUMBERS
from sidestep.audit.bundle import check, seal
from sidestep.audit.concealed import Concealed, commitment
from sidestep.audit.evidence import Evidence, Group, Share
from sidestep.audit.redact import KEPT, Redaction
from sidestep.audit.reviews import Review, Reviews, digest, problems
from sidestep.audit.reviews import read as read_reviews
from sidestep.cli.main import cli, main
from sidestep.errors import BadRecords, SidestepError
from sidestep.rng import image_seed
from sidestep.runs import records
from sidestep.runs.records import Record

replace = msgspec.structs.replace
SECRET_PATH = "/data/ilse.vogt/private scans/box"
# Words of the form, what the auditor wrote, numbers.
KEEP = (".state", ".auditor", ".seed", ".window")
UNSAMPLED = "a prompt that only the settings hold"


def full() -> Evidence:
    """Evidence whose free text repeats captions, paths and people, as sentences may."""
    whole = evidence()
    caption, path = whole.findings[0].training.caption, whole.findings[3].training.path
    tried = replace(
        whole.tried[2],
        settings={"anchors": [UNSAMPLED], "mode": "words"},
        label=f"anchored to {UNSAMPLED}",
        unfit=f"the prompt {caption!r} is too long for it",
    )
    return replace(
        changed(
            whole,
            scope={
                "command": f"sidestep audit '{SECRET_PATH}/model' --images {SECRET_PATH[:16]}/x",
                "context": "asked by ilse.vogt@lab-17.example of the press office",
            },
            training={
                "source": "C:\\Users\\Ilse\\scans",
                "unreadable": {f"{SECRET_PATH}/a.png is cut": 3, f"{SECRET_PATH}/b.png is cut": 4},
            },
            prompts={"source": f"file:///srv/ilse/{path}"},
            verdict={"reasons": (f"“{caption}” came back, from {path}.",)},
        ),
        tried=(*whole.tried[:2], tried, *whole.tried[3:]),
    )


@pytest.fixture
def bundle(tmp_path):
    folder = write(tmp_path / "audit", full())
    (folder / "report.html").touch()
    seal(folder)
    return folder


def redact(bundle: Path, mode: str) -> Path:
    out = bundle.parent / mode
    args = ["redact", str(bundle), "--mode", mode, "--out", str(out)]
    cli.main(args, standalone_mode=False, obj={})
    return out


def everything(folder: Path) -> bytes:
    """The bytes of an edition, names of files and inlined pictures included."""
    parts = []
    for path in sorted(folder.rglob("*")):
        parts.append(path.relative_to(folder).as_posix().encode())
        if path.is_file():
            data = path.read_bytes()
            parts += [data, *map(base64.b64decode, re.findall(rb"base64,([\w+/=]+)", data))]
    return b"\n".join(parts)


def secrets(whole: Evidence, mode: str) -> set[str]:
    """What the edition must not hold."""
    training = [f.training for f in whole.findings]
    found = {x for t in training for x in (t.path, Path(t.path).name, t.id, t.sha256)}
    found |= {"/data/ilse", "ilse.vogt", "private scans", "Users", "/srv/ilse", "lab-17"}
    if mode == "hashes":
        found |= {str(t.caption) for t in training} | {UNSAMPLED, whole.prompts.sha256}
        found |= {str(x.seed) for f in whole.findings for x in f.exhibits}
    return found


@pytest.mark.parametrize("mode", ["blur", "hashes"])
def test_nothing_concealed_is_left_in_any_file(mode, bundle):
    whole = Evidence.read(bundle)
    data = everything(redact(bundle, mode))
    left = {s for s in secrets(whole, mode) if s.encode() in data}
    # JSON and HTML may write a letter or a quote in another way.
    folded = data.decode("utf-8", "ignore").encode("ascii", "ignore").lower()
    left |= {
        s for s in secrets(whole, mode)
        if s.encode("ascii", "ignore").lower() in folded and s.lower() != "users"
    }  # fmt: skip
    assert left == set()
    # A token is no plain hash of what it stands for.
    for word in secrets(whole, mode):
        assert hashlib.sha256(word.encode()).hexdigest().encode() not in data
        assert hashlib.sha256(word.encode()).hexdigest()[:24].encode() not in data
    assert whole.scope.auditor.encode() in data
    assert whole.verdict.state.encode() in data


@pytest.mark.parametrize("mode", ["blur", "hashes"])
def test_no_picture_of_the_bundle_is_left(mode, bundle):
    before = {p.read_bytes() for p in bundle.rglob("*.png")}
    out = redact(bundle, mode)
    data = everything(out)
    # A PNG's pixels are one compressed stream; its first bytes would already give it away.
    for picture in before:
        start = picture.index(b"IDAT") + 4
        assert picture[start : start + 48] not in data
    shown = re.findall(r"data:image/\w+;base64,([\w+/=]+)", (out / "report.html").read_text())
    files = [p.read_bytes() for p in out.rglob("*.png")]
    if mode == "hashes":
        assert not shown
        assert not files
        return
    assert len(files) == len(before)
    for one in [*map(base64.b64decode, shown), *files]:
        image = Image.open(io.BytesIO(one))
        assert np.asarray(image).size <= NUMBERS
        assert not image.info
        assert set(np.unique(image)) <= {255 * k // (LEVELS - 1) for k in range(LEVELS)}


@pytest.mark.parametrize("mode", ["blur", "hashes"])
def test_every_number_stays_and_the_full_bundle_is_named(mode, bundle):
    sums = hashlib.sha256((bundle / "SHA256SUMS").read_bytes()).hexdigest()
    whole, edition = Evidence.read(bundle), Evidence.read(redact(bundle, mode))
    assert edition.edition is not None
    assert (edition.edition.mode, edition.edition.full) == (mode, sums)
    assert edition.verdict.share == whole.verdict.share
    assert [g.share for g in edition.results.prompts] == [g.share for g in whole.results.prompts]
    assert edition.results.kinds == whole.results.kinds
    assert edition.search == whole.search
    assert edition.versions == whole.versions
    assert edition.training.levels == whole.training.levels
    assert sum(edition.training.unreadable.values()) == 7
    for one, was in zip(edition.findings, whole.findings, strict=True):
        assert (one.similarity, one.confirmed, one.local) == (
            was.similarity, was.confirmed, was.local,
        )  # fmt: skip
        assert one.training.times == was.training.times
    assert f"Redacted edition ({mode})" in (bundle.parent / mode / "report.html").read_text()
    assert sums in (bundle.parent / mode / "report.html").read_text()


@pytest.mark.parametrize("mode", ["blur", "hashes"])
def test_records_are_redacted_alike_and_can_be_read(mode, bundle):
    out = redact(bundle, mode)
    before = records.read(bundle / "records/observed.jsonl")
    after = records.read(out / "records/observed.jsonl")
    edition = Evidence.read(out)
    ids, prompts = {}, {}
    for was, row in zip(before, after, strict=True):
        assert (row.copy, row.similarity, row.draw) == (was.copy, was.similarity, was.draw)
        assert row.nearest_image is None
        assert ids.setdefault(was.nearest, row.nearest) == row.nearest
        assert prompts.setdefault(was.prompt, row.prompt) == row.prompt
        assert (row.seed is None) == (mode == "hashes")
    assert set(ids.values()) == {f.training.id for f in edition.findings}
    assert set(prompts.values()) == {f.prompts[0].name for f in edition.findings}
    assert len(set(ids.values())) == len(set(prompts.values())) == len(edition.findings)


def test_every_field_of_a_record_has_been_thought_of():
    names = {f.name for f in fields(Record)}
    assert names == {*KEPT, "prompt", "seed", "nearest", "nearest_image"}


def test_every_text_of_the_evidence_is_concealed_or_known_to_be_harmless():
    """A new field that holds text stays in an edition only if it is entered here."""
    whole = evidence()
    paths = {}

    def mark(value, path):
        match value:
            case str() if not path.endswith(KEEP) and ".records" not in path:
                paths[f"/secret/{len(paths)}/x"] = path
                return f"/secret/{len(paths) - 1}/x"
            case dict():
                return {k: mark(v, f"{path}.{k}") for k, v in value.items()}
            case list() | tuple():
                return [mark(v, path) for v in value]
            case _:
                return value

    marked = msgspec.convert(mark(msgspec.to_builtins(whole), ""), Evidence)
    done = Redaction("blur", marked).evidence(marked, sha(9))
    left = done.to_bytes().decode()
    assert {paths[m] for m in paths if f'"{m}"' in left} == set()


@pytest.mark.parametrize("mode", ["blur", "hashes"])
def test_reviews_come_along_without_the_names_of_reviewers(mode, bundle):
    caption = full().findings[0].training.caption
    rows = [
        Review("2.1", "Tom Anders", "no copy", "other boat", "2026-11-03T09:12:44Z"),
        Review("1.1", "Tom Anders", "copy", "Sue Berg agrees", "2026-11-05T09:12:44Z", 1),
        Review("1.1", "Sue Berg", "unsure", f"is it {caption}?", "2026-11-04T09:12:44Z"),
    ]
    reviews = Reviews.of(digest(bundle), rows)
    (bundle / "reviews.json").write_bytes(reviews.to_bytes())
    seal(bundle)
    out = redact(bundle, mode)
    data = everything(out)
    assert not {w for w in ("Tom Anders", "Sue Berg", "Anders") if w.encode() in data}
    assert (b"other boat" in data) == (mode == "blur")
    assert (str(caption).encode() in data) == (mode == "blur")
    after = read_reviews(out)
    assert [(r.exhibit, r.reviewer, r.choice, r.date, r.revised) for r in after.reviews] == [
        ("1.1", "reviewer 1", "copy", "2026-11-05T09:12:44Z", 1),  # spoke first, of 2.1
        ("1.1", "reviewer 2", "unsure", "2026-11-04T09:12:44Z", 0),
        ("2.1", "reviewer 1", "no copy", "2026-11-03T09:12:44Z", 0),
    ]
    if mode == "blur":
        assert after.reviews[0].note == "[withheld] agrees"
    assert check(out, None, [problems]).holds
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "2 people reviewed 3" not in page
    assert "2 people reviewed 2 of 12 exhibits" in page
    assert "<script" not in page and "<fieldset" not in page


def test_a_token_opens_with_its_line_alone(bundle):
    out = redact(bundle, "hashes")
    file = out.with_name("hashes.openings.jsonl")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 or sys.platform == "win32"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    by_token = {row["token"]: row for row in rows}
    for one, was in zip(Evidence.read(out).findings, full().findings, strict=True):
        row = by_token[one.training.caption]
        assert row["word"] == was.training.caption
        opened = hashlib.sha256(bytes.fromhex(row["nonce"]) + row["word"].encode()).hexdigest()
        assert opened == one.training.caption
    assert len({row["nonce"] for row in rows}) == len(rows)
    assert not list(out.rglob("*openings*"))


def test_tokens_are_the_same_within_an_edition_and_differ_between_two():
    one, other = Concealed(), Concealed()
    assert one.token("a fox") == one.token("a fox") != one.token("a fo")
    assert one.token("a fox") != other.token("a fox")
    # What stands on the border of nonce and word cannot be moved: the nonce has a fixed length.
    assert commitment(b"\0" * 32, "ab") != commitment(b"\0" * 31 + b"a", "b")


def test_seeds_would_give_prompts_away():
    """Why `hashes` leaves them out: a guess of the prompt can be checked against its seed."""
    seed = image_seed(11, "portrait of Dr Ilse Vogt", 0)
    guesses = ["a fox", "portrait of Dr Ilse Vogt", "an owl"]
    assert [g for g in guesses if image_seed(11, g, 0) == seed] == [guesses[1]]


@pytest.mark.parametrize("caption", ["finding", "caption", "target", "state", "observed", "hashes"])
def test_a_caption_that_is_a_word_of_the_form_breaks_nothing(caption, tmp_path):
    one = finding(0)
    one = replace(
        one, training=replace(one.training, caption=caption),
        prompts=(Group(name=caption, share=Share.count(1, 4)),),
        exhibits=tuple(replace(x, prompt=caption) for x in one.exhibits),
    )  # fmt: skip
    folder = write(tmp_path / "audit", replace(evidence(), findings=(one,)))
    (folder / "report.html").touch()
    seal(folder)
    edition = Evidence.read(redact(folder, "hashes"))
    assert edition.verdict.state == "finding"
    assert edition.findings[0].training.caption != caption


def test_an_edition_is_sealed_last(bundle):
    out = redact(bundle, "blur")
    listed = (out / "SHA256SUMS").read_text()
    for name in ("audit.json", "report.html", "records/observed.jsonl"):
        assert f"{hashlib.sha256((out / name).read_bytes()).hexdigest()}  {name}" in listed


def test_the_full_bundle_is_left_as_it_was(bundle):
    before = everything(bundle)
    redact(bundle, "hashes")
    assert everything(bundle) == before


def test_refusals(bundle, tmp_path):
    out = redact(bundle, "blur")
    with pytest.raises(SidestepError, match="is not empty"):
        redact(bundle, "blur")
    for path in (out, *out.rglob("*")):
        if path.is_file():
            path.unlink()
    with pytest.raises(SidestepError, match="is not empty"):  # folders count too
        redact(bundle, "blur")
    args = ["--mode", "blur", "--out"]
    assert main(["redact", str(bundle), *args, str(bundle / "inside")]) == 2
    assert not (bundle / "inside").exists()
    edition = redact(bundle, "hashes")
    with pytest.raises(BadRecords, match="is a redacted edition already"):
        cli.main(
            ["redact", str(edition), *args, str(tmp_path / "again")], standalone_mode=False, obj={}
        )
    assert not (tmp_path / "again").exists()
    (bundle / "SHA256SUMS").unlink()
    with pytest.raises(BadRecords, match="has no SHA256SUMS"):
        cli.main(
            ["redact", str(bundle), *args, str(tmp_path / "new")], standalone_mode=False, obj={}
        )


def test_openings_of_an_earlier_edition_are_never_written_over(bundle):
    kept = bundle.parent / "blur.openings.jsonl"
    kept.write_text("earlier\n")
    with pytest.raises(SidestepError, match="opens an earlier edition"):
        redact(bundle, "blur")
    assert kept.read_text() == "earlier\n"
