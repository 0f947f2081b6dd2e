"""The list of a bundle: one form for a set of files, and whatever else comes is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference.sealed import FILES, make, write_list

from sidestep.audit import sums
from sidestep.audit.bundle import check, seal
from sidestep.errors import BadBundle

pytest.importorskip("rfc8785")


@pytest.fixture
def folder(tmp_path):
    return make(tmp_path / "bundle")


def test_a_list_without_a_file_of_every_audit_is_found(folder):
    (folder / "report.html").unlink()
    write_list(folder, [n for n in FILES if n != "report.html"])
    assert check(folder).problems == ("'report.html' is no part of it; every audit has one.",)


H = b"a" * 64


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "whole line"),
        (H + b"  report.html", "whole line"),
        (H + b"  /etc/passwd\n", "plain path"),
        (H + b"  ../x\n", "plain path"),
        (H + b"  a/../../x\n", "plain path"),
        (H + b"  ./x\n", "plain path"),
        (H + b"  a//x\n", "plain path"),
        (H + b"  a/\n", "plain path"),
        (H + b"  ..\\x\n", "backslash"),
        (H + b"  -\n", "bare dash"),
        (H + b"  work/x\n", "no part of a bundle"),
        (H + b"  SHA256SUMS\n", "no part of a bundle"),
        (H + b"  SHA256SUMS.asc\n", "no part of a bundle"),
        (H + b"  x\r\n", "do not print"),
        (H + b"  \x1b[2J\n", "do not print"),
        (H + b"  \xff\n", "no UTF-8"),
        (H + b" *x\n", "line 1 is not 64"),
        (H.upper() + b"  x\n", "line 1 is not 64"),
        (H[1:] + b"  x\n", "line 1 is not 64"),
        (b"\\" + H + b"  x\n", "line 1 is not 64"),
        (b"SHA256 (x) = " + H + b"\n", "line 1 is not 64"),
        (H + b"  x\n\n", "line 2 is not 64"),
        (H + b"  " + b"x" * 10**6 + b"\n", "line 1 is not 64"),
        (H + b"  x\n" + H + b"  x\n", "line 2 is out of order"),
        (H + b"  x\n" + b"b" * 64 + b"  b\n", "line 2 is out of order"),
        (bytes(range(256)) * 100 + b"\n", "line 1 is not 64"),
    ],
)
def test_a_hostile_list_is_one_sentence_and_leads_nowhere(folder, data, said):
    (folder / "SHA256SUMS").write_bytes(data)
    (problem,) = check(folder).problems
    assert said in problem and len(problem) < 300
    assert "was expected" in check(folder, "0" * 64).problems[0]


@given(st.binary(max_size=200) | st.binary(max_size=9).map(lambda b: H + b"  " + b + b"\n"))
def test_a_list_is_refused_or_is_the_one_that_we_write(data):
    try:
        listed = sums.from_bytes(data)
    except ValueError:
        return
    assert sums.to_bytes(listed) == data


def test_a_list_larger_than_any_is_not_read(folder, monkeypatch):
    seal(folder)
    monkeypatch.setattr(sums, "MOST", 100)
    with pytest.raises(BadBundle, match="no list of a bundle"):
        check(folder)
    (folder / "SHA256SUMS").unlink()
    with pytest.raises(BadBundle, match="leave some out"):
        seal(folder)


@pytest.mark.parametrize("kind", ["nothing", "folder", "link"])
def test_no_list_is_no_bundle(folder, kind):
    if kind == "folder":
        (folder / "SHA256SUMS").mkdir()
    elif kind == "link":
        seal(folder)
        (folder / "SHA256SUMS").rename(folder / "work/list")
        (folder / "SHA256SUMS").symlink_to("work/list")
    with pytest.raises(BadBundle, match="is no bundle"):
        check(folder)
