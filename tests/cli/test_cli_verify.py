"""`sidestep verify`, as a user types it."""

import hashlib
import json
import re
import shutil

import pytest
from reference import toy_audit

from sidestep.audit.bundle import seal
from sidestep.cli.main import cli, main

pytest.importorskip("rfc8785")


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    out = tmp_path_factory.mktemp("audit")
    toy_audit.run(out)
    shutil.rmtree(out / "work")
    return out


@pytest.fixture
def sealed(audited, tmp_path):
    shutil.copytree(audited, tmp_path / "bundle")
    return tmp_path / "bundle", seal(tmp_path / "bundle")


def many(folder):
    return sum(p.is_file() for p in folder.rglob("*")) - 1


def test_a_bundle_that_holds_is_one_line(sealed, capsys):
    folder, number = sealed
    assert main(["verify", str(folder), "--expect", number]) == 0
    assert capsys.readouterr().out == f"{many(folder)} files as they were sealed, hash {number}\n"
    assert cli.main(["verify", str(folder)], standalone_mode=False, obj={}) == 0
    assert main(["verify", str(folder), "--json"]) == 0
    capsys.readouterr()
    (folder / "work").mkdir()
    assert main(["verify", str(folder)]) == 0
    assert capsys.readouterr().out.endswith(" (not covered: work/)\n")


def test_json_has_every_fact(sealed, capsys):
    folder, number = sealed
    assert main(["verify", str(folder), "--expect", number, "--json"]) == 0
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    assert json.loads(capsys.readouterr().out) == {
        "holds": True, "hash": number, "expected": number, "files": many(folder),
        "bytes": size - (folder / "SHA256SUMS").stat().st_size, "problems": [], "not_covered": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"copies":24', '"copies":23', "by kind"),
        ('"state":"finding"', '"state":"pass"', "its records say finding"),
        (r'("verdict":.*"copies":)\d+', r"\g<1>7", "rests on 7 copies of"),
        (r"captions? gives? a training", "caption gives no training", "reasons of the verdict"),
        (r'"threshold":0\.\d+', '"threshold":0.25', "calibrated threshold"),
    ],
)
def test_numbers_that_do_not_follow_from_the_records(sealed, capsys, old, new, says):
    """Somebody changed a number and sealed the bundle again: the hashes fit, the count does not."""
    folder, _ = sealed
    text = (folder / "audit.json").read_text()
    assert re.search(old, text)
    (folder / "audit.json").write_text(re.sub(old, new, text))
    seal(folder)
    assert main(["verify", str(folder)]) == 1
    assert says in capsys.readouterr().out


def test_findings_are_a_sentence_each_and_exit_with_1(sealed, capsys):
    folder, _ = sealed
    (folder / "report.html").write_text("other")
    (folder / "records/tried.jsonl").unlink()
    assert main(["verify", str(folder), "--expect", "0" * 64]) == 1
    shown = capsys.readouterr()
    first, second, third = shown.out.splitlines()
    assert "was expected" in first and not shown.err
    assert second == "'records/tried.jsonl' is missing."
    assert third.startswith("'report.html' was changed")
    assert main(["verify", str(folder), "--json"]) == 1
    assert len(json.loads(capsys.readouterr().out)["problems"]) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{folder}/no"], "is no bundle"),
        (["{folder}/report.html"], "is no bundle"),
        (["{folder}", "--expect", "abc"], "is no SHA-256"),
    ],
)
def test_what_is_no_bundle_exits_with_2(sealed, capsys, arguments, said):
    assert main(["verify", *(a.format(folder=sealed[0]) for a in arguments)]) == 2
    shown = capsys.readouterr()
    assert said in shown.err and shown.err.startswith("Error: ") and not shown.out


@pytest.mark.parametrize("mode", ["blur", "hashes"])
def test_a_redacted_edition_of_a_real_audit_holds(sealed, mode):
    """Its hashes fit, and its counts and verdict follow from its redacted records."""
    folder, _ = sealed
    out = folder.with_name(mode)
    assert main(["redact", str(folder), "--mode", mode, "--out", str(out)]) == 0
    assert main(["verify", str(out)]) == 0
    said = b"".join(p.read_bytes() for p in out.rglob("*.json*"))
    assert (b"picture 3" in said) == (mode == "blur")


@pytest.mark.parametrize("mode", ["blur", "hashes"])
def test_a_real_audit_with_reviews_holds_and_so_do_its_editions(sealed, mode, capsys):
    folder, before = sealed
    said = {"form": "sidestep-reviews", "version": 1, "reviewer": "Ann Berg",
            "audit": hashlib.sha256((folder / "audit.json").read_bytes()).hexdigest(),
            "date": "2026-11-03T09:12:44Z",
            "reviews": [{"exhibit": "1.1", "choice": "copy", "note": "the same"}]}  # fmt: skip
    file = folder.with_name("reviews-1.json")
    file.write_text(json.dumps(said))
    assert main(["review", str(folder), str(file), "--json"]) == 0
    number = json.loads(capsys.readouterr().out)["hash"]
    assert number != before
    assert main(["verify", str(folder), "--expect", number]) == 0
    out = folder.with_name(mode)
    assert main(["redact", str(folder), "--mode", mode, "--out", str(out)]) == 0
    assert main(["verify", str(out)]) == 0
    assert "Ann" not in (out / "reviews.json").read_text()
