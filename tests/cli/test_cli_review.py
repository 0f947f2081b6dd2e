"""`sidestep review`, as a user types it."""

import json
import shutil

import pytest
from web.bundles import evidence, write

from sidestep.audit.bundle import seal
from sidestep.audit.evidence import Evidence
from sidestep.audit.reviews import digest
from sidestep.cli.main import cli, main
from sidestep.web.evidence import write_evidence_report

pytest.importorskip("rfc8785")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = write(tmp_path_factory.mktemp("made") / "audit", evidence(3))
    write_evidence_report(folder)
    seal(folder)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "audit")


def sheet(folder, name, who, day, **choices):
    path = folder.parent / name
    rows = [{"exhibit": k[1:].replace("_", "."), "choice": c} for k, c in choices.items()]
    whole = {"form": "sidestep-reviews", "version": 1, "audit": digest(folder), "reviewer": who,
             "date": f"2026-11-0{day}T09:12:44Z", "reviews": rows}  # fmt: skip
    path.write_text(json.dumps(whole))
    return str(path)


def test_reviews_stand_in_the_report_and_the_verdict_stays(folder, capsys):
    verdict = Evidence.read(folder).verdict
    ann = sheet(folder, "a.json", "Ann", 3, x1_1="copy", x1_2="no copy", x2_1="copy")
    zoe = sheet(folder, "z.json", "Zoë", 4, x1_1="no copy")
    cli.main(["review", str(folder), ann, zoe], standalone_mode=False, obj={})
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "4 new reviews, 0 replaced",
        "3 of 6 exhibits reviewed: 1 copy, 1 no copy, 0 unsure, 1 split",
    ]
    number = lines[-1].split()[1]
    assert Evidence.read(folder).verdict == verdict
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "2 people reviewed 3 of 6 exhibits." in page and "reviewers disagree" in page
    assert "The verdict stands on what was measured" in page
    assert "reviews.json</bdi>" in page  # among the files that the page rests on
    # The report that stands there is the one that `sidestep report` writes.
    assert main(["report", str(folder), "--out", str(folder.parent / "again.html")]) == 0
    assert (folder.parent / "again.html").read_text(encoding="utf-8") == page
    capsys.readouterr()
    assert main(["verify", str(folder), "--expect", number]) in (0, 1)
    said = capsys.readouterr().out
    # The made-up numbers of this bundle do not follow from its records; its files are right.
    assert "reviews" not in said and "was changed" not in said and "expected" not in said


def test_what_is_replaced_or_left_out_is_said(folder, capsys):
    first = sheet(folder, "a.json", "Ann", 3, x1_1="copy")
    later = sheet(folder, "b.json", "Ann", 5, x1_1="unsure")
    assert main(["review", str(folder), first]) == 0
    capsys.readouterr()
    assert main(["review", str(folder), later]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "replaced  exhibit 1.1: Ann says unsure, and said copy on 2026-11-03T09:12:44Z"
    )
    assert main(["review", str(folder), first]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("left out  exhibit 1.1: what Ann said on 2026-11-03T09:12:44Z is")
    assert lines[-1].endswith("(as before)")
    assert main(["review", str(folder), first, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["hash"] == found["hash_before"] and found["called_unsure"] == 1
    assert found["older"][0]["choice"] == "copy" and found["replaced"] == []


def test_errors_are_a_sentence_and_exit_with_2(folder, capsys):
    bad = sheet(folder, "a.json", "Ann", 3, x9_9="copy")
    for arguments, said in (
        ([str(folder), bad], "exhibit '9.9': the audit has no such exhibit"),
        ([str(folder), str(folder / "no.json")], "cannot be read"),
        ([str(folder.parent), bad], "is no bundle"),
        ([str(folder)], "Missing argument"),
    ):
        assert main(["review", *arguments]) == 2
        shown = capsys.readouterr()
        assert said in shown.err and not shown.out


def test_verify_says_what_is_wrong_with_reviews(folder, capsys):
    assert main(["review", str(folder), sheet(folder, "a.json", "Ann", 3, x1_1="copy")]) == 0
    text = (folder / "reviews.json").read_text()
    (folder / "reviews.json").write_text(text.replace('"1.1"', '"7.7"'))
    seal(folder)
    capsys.readouterr()
    assert main(["verify", str(folder)]) == 1
    assert "exhibit '7.7': the audit has no such exhibit" in capsys.readouterr().out
