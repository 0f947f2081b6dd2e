"""A bundle: whatever is done to it is found, coreutils agree, and a killed seal seals nothing."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference.sealed import FILES, make, write_list

from sidestep.audit import bundle, sums
from sidestep.audit.bundle import check, seal
from sidestep.errors import BadBundle, BadRecords

pytest.importorskip("rfc8785")


@pytest.fixture
def folder(tmp_path):
    return make(tmp_path / "bundle")


def agrees(folder):
    """What `sha256sum -c` says of the listed files."""
    tool = shutil.which("sha256sum")
    if tool is None:
        pytest.skip("no sha256sum here")
    arguments = [tool, "--check", "--strict", "--quiet", "SHA256SUMS"]
    return subprocess.run(arguments, cwd=folder, capture_output=True).returncode == 0


def test_a_sealed_bundle_holds_for_us_and_for_coreutils(folder):
    number = seal(folder)
    data = (folder / "SHA256SUMS").read_bytes()
    assert number == hashlib.sha256(data).hexdigest()
    rows = [(hashlib.sha256(b).hexdigest(), n.encode()) for n, b in FILES.items()]
    ordered = sorted(rows, key=lambda row: row[1])
    assert data == b"".join(h.encode() + b"  " + n + b"\n" for h, n in ordered)
    found = check(folder, number.upper())
    assert found.holds and found.hash == number and found.uncovered == ("work/",)
    assert (found.files, found.size) == (len(FILES), sum(map(len, FILES.values())))
    assert agrees(folder)


def test_sealing_again_changes_nothing_and_moved_files_hold(folder, tmp_path):
    number = seal(folder)
    before = (folder / "SHA256SUMS").stat()
    assert seal(folder) == number
    assert (folder / "SHA256SUMS").stat().st_mtime_ns == before.st_mtime_ns
    other = tmp_path / "elsewhere"
    shutil.copytree(folder, other, ignore=shutil.ignore_patterns("work"))
    assert check(other, number).holds and check(other).uncovered == ()


# One change anywhere: a byte flipped, a file cut, appended to, renamed, deleted or added.
names = st.sampled_from([*FILES, "SHA256SUMS"])
places = st.floats(0, 1, exclude_max=True)
changes = st.one_of(
    st.tuples(st.just("flip"), names, places, st.integers(1, 255)),
    st.tuples(st.just("cut"), names, places),
    st.tuples(st.just("append"), names, st.binary(min_size=1, max_size=80)),
    st.tuples(st.just("delete"), names),
    st.tuples(st.just("rename"), names, st.sampled_from(["", "pictures/", "work"])),
    st.tuples(st.just("add"), st.sampled_from(["x", "pictures/x", "workx", "a/work/x", "..."])),
    st.tuples(st.just("swap"), names, names),
)


def apply(folder, change):
    """Change a bundle; False if this change does not exist for that file."""
    what, name, *more = change
    path = folder / name
    data = path.read_bytes() if path.exists() else b""
    if what in ("flip", "cut") and not data:
        return False
    if what == "flip":
        place = int(more[0] * len(data))
        path.write_bytes(data[:place] + bytes([data[place] ^ more[1]]) + data[place + 1 :])
    elif what == "cut":
        path.write_bytes(data[: int(more[0] * len(data))])
    elif what == "append":
        path.write_bytes(data + more[0])
    elif what == "delete":
        path.unlink()
    elif what == "rename":
        (folder / more[0]).mkdir(exist_ok=True)
        path.rename(folder / more[0] / "other.name")
    elif what == "add":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    elif what == "swap":
        other = folder / more[0]
        if data == other.read_bytes():
            return False
        path.write_bytes(other.read_bytes())
        other.write_bytes(data)
    return True


def covered(folder):
    return {entry.name: entry.path.read_bytes() for entry in bundle.entries(folder)}


def verdict(folder, expect=None):
    try:
        return check(folder, expect).holds
    except BadBundle:
        return False


@given(changes)
def test_any_one_change_is_found_without_knowing_the_number(change):
    with tempfile.TemporaryDirectory() as place:
        folder = make(Path(place) / "bundle")
        seal(folder)
        assert verdict(folder)
        if apply(folder, change):
            assert not verdict(folder)


@given(changes)
def test_coreutils_never_find_what_we_miss_and_the_number_finds_a_new_seal(change):
    with tempfile.TemporaryDirectory() as place:
        folder = make(Path(place) / "bundle")
        number, before = seal(folder), covered(folder)
        if not apply(folder, change):
            return
        if (folder / "SHA256SUMS").is_file() and not agrees(folder):
            assert not verdict(folder)
        try:
            again = seal(folder)
        except BadBundle:
            return  # no longer the files of an audit
        assert verdict(folder) and agrees(folder)
        # Where only the list had been changed, the new one is the old one.
        assert (again == number) == verdict(folder, number) == (covered(folder) == before)


def test_each_problem_is_a_sentence_that_names_its_file(folder):
    number = seal(folder)
    (folder / "report.html").write_bytes(b"<html>")
    (folder / "pictures/a/0000.png").unlink()
    (folder / "pictures/\x1b[2Jx").write_bytes(b"")
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to("report.html")
    (folder / "way").symlink_to("pictures")
    problems = check(folder).problems
    named = [
        "link",
        "pictures/\\x1b[2Jx",
        "pictures/a/0000.png",
        "pipe",
        "report.html",
        "way",
    ]
    assert [p.split(" ")[0] for p in problems] == [f"'{n}'" for n in named]
    wanted = ["is a link", "is not in", "is missing", "is a device, pipe", "was changed", "a link"]
    assert all(said in problem for said, problem in zip(wanted, problems, strict=True))
    assert "was expected" in check(folder, "0" * 64).problems[0]
    assert "was expected" not in "".join(check(folder, number).problems)


def test_a_listed_file_that_became_a_link_to_the_same_bytes_is_found(folder, tmp_path):
    seal(folder)
    (folder / "report.html").rename(tmp_path / "kept.html")
    (folder / "report.html").symlink_to(tmp_path / "kept.html")
    assert check(folder).problems == ("'report.html' is a link; a bundle has regular files only.",)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a\nb", "do not print"),
        ("a\rb", "do not print"),
        ("a\\b", "backslash"),
        ("a\u202eb", "do not print"),
        (b"a\xffb", "do not print"),
        ("-", "bare dash"),
    ],
)
def test_odd_names_are_refused_at_the_seal(folder, name, said):
    with open(os.path.join(os.fsencode(folder), os.fsencode(name)), "wb"):
        pass
    with pytest.raises(BadBundle, match=said):
        seal(folder)
    assert not (folder / "SHA256SUMS").exists()


@pytest.mark.parametrize("kind", ["link", "folder link", "dangling", "pipe", "work"])
def test_links_and_special_files_are_refused_at_the_seal(folder, kind, tmp_path):
    if kind == "pipe":
        os.mkfifo(folder / "pictures/x")
    elif kind == "work":  # working state elsewhere would be a way out of the folder
        shutil.rmtree(folder / "work")
        (folder / "work").symlink_to(tmp_path)
    else:
        target = {"link": "../report.html", "folder link": "a", "dangling": "no"}[kind]
        (folder / "pictures/x").symlink_to(target)
    with pytest.raises(BadBundle, match=r"is a (link|device)"):
        seal(folder)
    assert not (folder / "SHA256SUMS").exists()


@pytest.mark.parametrize("name", bundle.NEEDED)
def test_what_no_audit_lacks_must_be_there(folder, name):
    (folder / name).unlink()
    with pytest.raises(BadBundle, match=f"has no {name}"):
        seal(folder)


def test_an_audit_that_is_not_canonical_is_refused_and_found(folder):
    (folder / "audit.json").write_bytes(b'{"a": 1}')
    with pytest.raises(BadBundle, match="canonical form"):
        seal(folder)
    write_list(folder)
    (said,) = check(folder).problems
    assert "audit.json is not what an audit writes" in said and "byte 5" in said


def test_an_audit_larger_than_any_is_not_parsed(folder, monkeypatch):
    seal(folder)
    monkeypatch.setattr(bundle, "LARGEST", 10)
    (said,) = check(folder).problems
    assert "it has more than" in said


@pytest.mark.parametrize("expect", ["", "abc", "0" * 63, "0" * 65, "g" * 64, "0" * 64 + "\n"])
def test_what_is_expected_must_be_a_hash(folder, expect):
    seal(folder)
    with pytest.raises(ValueError, match="is no SHA-256"):
        check(folder, expect)


def test_numbers_are_counted_again_once_the_files_hold(folder):
    seal(folder)
    asked = []

    def wrong(place):
        asked.append(place)
        yield "audit.json says 1 copy, and records.jsonl has 2."

    def broken(place):
        raise BadRecords("line 1 is damaged")

    found = check(folder, recounts=[wrong, broken, lambda place: ()])
    assert asked == [folder]
    assert found.problems == (
        "audit.json says 1 copy, and records.jsonl has 2.",
        "The numbers cannot be counted again: line 1 is damaged.",
    )
    (folder / "records.jsonl").write_bytes(b"")
    assert len(check(folder, recounts=[wrong, broken]).problems) == 1 and asked == [folder]


@pytest.mark.parametrize("name", sums.SIGNATURES)
def test_a_signature_stands_beside_and_stops_a_seal_of_other_files(folder, name):
    number = seal(folder)
    (folder / name).write_bytes(b"signature")
    assert check(folder, number).holds and name in check(folder).uncovered
    assert seal(folder) == number
    (folder / "report.html").write_bytes(b"other")
    with pytest.raises(BadBundle, match=f"move {name} away"):
        seal(folder)
    assert not check(folder).holds


# Dies by SIGKILL at the n-th of the calls that a seal makes of the operating system.
KILLED = """
import hashlib, os, signal, sys
from sidestep.audit.bundle import seal
left = int(sys.argv[2])
def deadly(call):
    def wrapped(*arguments):
        global left
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return call(*arguments)
    return wrapped
hashlib.file_digest = deadly(hashlib.file_digest)
os.fsync, os.replace, os.scandir = deadly(os.fsync), deadly(os.replace), deadly(os.scandir)
print(seal(sys.argv[1]))
"""


@pytest.mark.parametrize("old", [False, True], ids=["first seal", "files changed since a seal"])
def test_killed_at_every_step_a_seal_leaves_no_list_that_holds_falsely(tmp_path, old, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    folder = make(tmp_path / "bundle")
    if old:
        seal(folder)
        (folder / "report.html").write_bytes(b"<html>new</html>")
    for step in range(20):
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(folder), str(step)], capture_output=True, text=True
        )
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert (folder / "SHA256SUMS").exists() == old
        assert not verdict(folder)
    # scandir of 4 folders, 5 files, fsync, replace
    assert step == 11
    # The last kill came before the rename: what it left in the folder is gone.
    assert not list(folder.glob("*.tmp"))
    assert check(folder, done.stdout.strip()).holds and agrees(folder)


def test_a_file_that_changes_while_it_is_sealed_does_not_hold(folder, monkeypatch):
    def late(path, data):
        (folder / "records.jsonl").write_bytes(b"")
        path.write_bytes(data)

    monkeypatch.setattr(bundle.files, "write", late)
    seal(folder)
    assert not check(folder).holds


def test_hashing_streams(folder):
    """A file of 512 MiB is sealed and checked by a process that may hold 128 MiB."""
    resource = pytest.importorskip("resource")
    with (folder / "pictures/big.bin").open("wb") as file:
        file.truncate(2**29)  # sparse: no room on the disk

    def narrow():
        resource.setrlimit(resource.RLIMIT_DATA, (2**27, 2**27))

    code = (
        "import sys; from sidestep.audit.bundle import check, seal\n"
        "assert check(sys.argv[1], seal(sys.argv[1])).holds"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        check=True,
        preexec_fn=narrow,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
