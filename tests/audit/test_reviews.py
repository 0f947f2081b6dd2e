"""Reviews of people in a bundle: strict about what comes, whole whatever stops the writing."""

import hashlib
import json
import os
import shutil
import stat
import time
from itertools import combinations, permutations

import msgspec
import pytest
from web.bundles import evidence, write

from sidestep.audit import canonical, reviewing, reviews
from sidestep.audit.bundle import check, seal
from sidestep.audit.evidence import Edition
from sidestep.audit.names import OBSERVED
from sidestep.audit.review_file import LARGEST
from sidestep.audit.reviews import FILE, NOTE, Review, Reviews, merge, problems
from sidestep.audit.tally import opinion, tally
from sidestep.audit.writing import write_bundle
from sidestep.errors import BadBundle, BadReviews

pytest.importorskip("rfc8785")
DAY = "2026-11-0{}T09:12:44Z"


def present(bundle, made, out):
    out.write_bytes(b"report of " + made.to_bytes())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = write(tmp_path_factory.mktemp("made") / "audit", evidence(3))
    (folder / "report.html").write_text("report")
    seal(folder)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "audit")


def sheet(folder, *rows, who="Ann", day=3, **more):
    """What a report saves: rows of (exhibit, choice, note)."""
    return {
        "form": "sidestep-reviews", "version": 1, "audit": reviews.digest(folder), "reviewer": who,
        "date": DAY.format(day),
        "reviews": [{"exhibit": e, "choice": c, "note": n} for e, c, n in rows], **more,
    }  # fmt: skip


def give(folder, *sheets):
    paths = []
    for number, one in enumerate(sheets):
        paths.append(folder.parent / f"{number}.json")
        data = one if isinstance(one, bytes) else json.dumps(one, indent=2).encode()
        paths[-1].write_bytes(data)
    return reviewing.review(folder, paths, present)


def state(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def test_reviews_come_into_the_bundle_and_its_seal(folder):
    before = state(folder)
    done = give(
        folder, sheet(folder, ("3.1", "copy", ""), ("1.2", "no copy", "another")),
        sheet(folder, ("1.2", "unsure", ""), who="Zoë"),
    )  # fmt: skip
    after = state(folder)
    rows = canonical.from_bytes(after[FILE])["reviews"]
    assert [(r["exhibit"], r["reviewer"], r["choice"], r["note"]) for r in rows] == [
        ("1.2", "Ann", "no copy", "another"), ("1.2", "Zoë", "unsure", ""),
        ("3.1", "Ann", "copy", ""),
    ]  # fmt: skip
    assert done.before == hashlib.sha256(before["SHA256SUMS"]).hexdigest()
    assert done.hash == hashlib.sha256(after["SHA256SUMS"]).hexdigest()
    found = check(folder, done.hash, [problems])
    assert found.holds and not found.uncovered
    assert {n for n in after if after[n] != before.get(n)} == {FILE, "report.html", "SHA256SUMS"}
    assert after["report.html"] == b"report of " + after[FILE]
    assert FILE.encode() in after["SHA256SUMS"]
    # The same list that sealing anew would write.
    assert seal(folder) == done.hash


def test_the_same_file_again_changes_nothing(folder):
    one = sheet(folder, ("1.1", "copy", ""))
    first = give(folder, one)
    before = state(folder)
    again = give(folder, one)
    assert (again.hash, again.before) == (first.hash, first.hash)
    assert state(folder) == before
    assert not (again.merged.added or again.merged.replaced or again.merged.older)


def test_of_one_second_the_file_that_comes_last_stands(folder):
    give(folder, sheet(folder, ("1.1", "copy", "")))
    done = give(folder, sheet(folder, ("1.1", "unsure", "")))
    assert not done.merged.older
    assert [(r.choice, r.revised) for r in reviews.read(folder).reviews] == [("unsure", 1)]


def test_a_later_review_replaces_and_an_older_one_does_not(folder):
    give(folder, sheet(folder, ("1.1", "copy", ""), ("1.2", "copy", ""), day=3))
    done = give(folder, sheet(folder, ("1.1", "no copy", "seen again"), day=5))
    assert [(n.choice, b.choice) for n, b in done.merged.replaced] == [("no copy", "copy")]
    done = give(folder, sheet(folder, ("1.1", "unsure", ""), day=4))
    assert [(o.choice, s.choice) for o, s in done.merged.older] == [("unsure", "no copy")]
    assert done.hash == done.before
    rows = reviews.read(folder).reviews
    assert [(r.exhibit, r.choice, r.revised) for r in rows] == [
        ("1.1", "no copy", 1), ("1.2", "copy", 0),
    ]  # fmt: skip


def test_the_order_of_reviewers_does_not_matter():
    rows = [Review(e, w, "copy", "", DAY.format(1)) for e in ("10.1", "2.1") for w in ("b", "a")]
    none = Reviews.of("0" * 64, ())
    made = {merge(none, order).reviews.to_bytes() for order in permutations(rows)}
    assert len(made) == 1
    places = [(r.exhibit, r.reviewer) for r in merge(none, rows).reviews.reviews]
    assert places == [("2.1", "a"), ("2.1", "b"), ("10.1", "a"), ("10.1", "b")]


@pytest.mark.parametrize(("change", "said"), [
    ({"audit": "0" * 64}, "is about another audit"),
    ({"audit": ""}, "is about another audit"),
    ({"reviewer": ""}, "name is missing"),
    ({"reviewer": "  "}, "name is missing"),
    ({"reviewer": "\u200d\u200c"}, "name is missing"),
    ({"reviewer": None}, "no file of reviews"),
    ({"reviewer": "x" * 101}, "has 101 characters; 100 are allowed"),
    ({"reviewer": "Ann\u202e"}, "do not print"),
    ({"reviewer": "=HYPERLINK(1)"}, "formula"),
    ({"reviewer": "\u200d=HYPERLINK(1)"}, "formula"),
    ({"date": ""}, "is not of the form"),
    ({"date": "2026-11-3T09:12:44Z"}, "is not of the form"),
    ({"date": "2026-13-03T09:12:44Z"}, "is not of the form"),
    ({"date": "2026-11-03T09:12:44+01:00"}, "is not of the form"),
    ({"form": "other"}, "no file of reviews"),
    ({"version": 2}, "no file of reviews"),
    ({"more": 1}, "no file of reviews"),
    ({"reviews": []}, "holds no review"),
    ({"reviews": [{"exhibit": "9.1", "choice": "copy"}]}, "no such exhibit"),
    ({"reviews": [{"exhibit": "01.1", "choice": "copy"}]}, "no such exhibit"),
    ({"reviews": [{"exhibit": "1.1", "choice": "maybe"}]}, "'maybe' is unknown; known are copy"),
    ({"reviews": [{"choice": "copy"}]}, "no file of reviews"),
    ({"reviews": [{"exhibit": "1.1", "choice": "copy", "note": "<img src=x>"}]}, "a tag of HTML"),
    ({"reviews": [{"exhibit": "1.1", "choice": "copy", "note": "\uff0bcmd"}]}, "a formula"),
    ({"reviews": [{"exhibit": "1.1", "choice": "copy", "note": "a\nb"}]}, "more than one line"),
    ({"reviews": [{"exhibit": "1.1", "choice": "copy", "note": "\ud800"}]}, "do not print"),
    ({"reviews": [{"exhibit": "1.1", "choice": "copy", "note": "x" * (NOTE + 1)}]}, "1001 char"),
    ({"reviews": [{"exhibit": "1.1", "choice": "copy"}] * 2}, "has exhibit 1.1 twice"),
])  # fmt: skip
def test_a_file_that_does_not_fit_is_a_sentence_and_changes_nothing(folder, change, said):
    before = state(folder)
    good = sheet(folder, ("1.2", "copy", ""))
    bad = sheet(folder, ("1.1", "copy", "")) | change
    bad = {k: v for k, v in bad.items() if v is not None}
    with pytest.raises(BadReviews, match=said) as error:
        give(folder, good, bad)
    assert "1.json" in str(error.value) and str(error.value)[-1] != "."
    assert state(folder) == before and check(folder).holds
    assert not (folder / "work").exists()


@pytest.mark.parametrize(("data", "said"), [
    (b"", "no JSON from character 0"),
    (b"{", "no JSON"),
    (b"[1]", "Expected `object`"),
    (b"[" * 100_000, "nested too deeply"),
    (b'{"form": "a", "form": "b"}', "same key twice"),
    (b'{"version": NaN}', "NaN is no number"),
    (b"\xff\xfe", "no UTF-8"),
    (b" " * (LARGEST + 1), "1,048,577 bytes, and 1,048,576 are allowed"),
])  # fmt: skip
def test_what_is_no_file_of_reviews_at_all(folder, data, said):
    with pytest.raises(BadReviews, match=said):
        give(folder, data)
    assert check(folder).holds


def test_the_largest_file_is_refused_at_once(folder):
    """Reviews compared with each other would be a thousand million comparisons."""
    row = {"exhibit": "1.1", "choice": "copy"}
    data = json.dumps(sheet(folder) | {"reviews": [row] * 30_500}, separators=(",", ":")).encode()
    assert 0.95 * LARGEST < len(data) <= LARGEST
    begun = time.process_time()
    with pytest.raises(BadReviews, match=r"exhibit 1.1 twice"):
        give(folder, data)
    # 0.3 s where it is counted once, 7 s where each is compared with all.
    assert time.process_time() - begun < 2


def test_a_file_that_is_not_there(folder):
    with pytest.raises(BadReviews, match=r"cannot be read \(no such file"):
        reviewing.review(folder, [folder / "none.json"], present)


def test_what_changed_since_the_seal_is_not_sealed_anew(folder):
    one = sheet(folder, ("1.1", "copy", ""))
    (folder / "records/observed.jsonl").write_text("other\n")
    with pytest.raises(BadBundle, match=r"observed.jsonl' was changed"):
        give(folder, one)
    assert not check(folder).holds


def test_reviews_that_somebody_edited_are_not_sealed_anew(folder):
    give(folder, sheet(folder, ("1.1", "copy", "")))
    data = (folder / FILE).read_bytes()
    (folder / FILE).write_bytes(data.replace(b'"copy"', b'"unsure"'))
    with pytest.raises(BadBundle, match=r"reviews.json' was changed"):
        give(folder, sheet(folder, ("1.2", "copy", "")))


def test_refused_are_editions_signed_bundles_and_other_folders(folder, tmp_path):
    one = sheet(folder, ("1.1", "copy", ""))
    with pytest.raises(BadBundle, match="is no bundle"):
        reviewing.review(tmp_path, [], present)
    assert not (tmp_path / "work").exists()
    (folder / "SHA256SUMS.asc").touch()
    with pytest.raises(BadBundle, match=r"move SHA256SUMS.asc away, review, then sign again"):
        give(folder, one)
    (folder / "SHA256SUMS.asc").unlink()
    whole = evidence(3)
    edition = msgspec.structs.replace(whole, edition=Edition(mode="blur", full="0" * 64))
    (folder / "audit.json").write_bytes(edition.to_bytes())
    seal(folder)
    with pytest.raises(BadBundle, match="is a redacted edition"):
        give(folder, sheet(folder, ("1.1", "copy", "")))


def test_a_second_process_is_refused(folder):
    from filelock import FileLock

    (folder / "work").mkdir()
    with (
        FileLock(folder / "work/lock"),
        pytest.raises(BadReviews, match="another process works in"),
    ):
        give(folder, sheet(folder, ("1.1", "copy", "")))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is stopped by leaving its fork")
def test_killed_before_or_after_any_rename_it_ends_with_the_same_bundle(folder, tmp_path):
    sheets = [
        sheet(folder, ("1.1", "copy", ""), day=4),
        sheet(folder, ("1.1", "unsure", "x"), ("2.1", "copy", ""), who="Zoë", day=5),
    ]
    give(folder, sheet(folder, ("1.1", "no copy", "first"), day=2))
    start = state(folder)
    whole = shutil.copytree(folder, tmp_path / "whole")
    give(whole, *sheets)
    want, states = state(whole), set()
    steps = 0
    for after in (False, True):
        for step in range(1, 20):
            one = shutil.copytree(folder, tmp_path / f"{after}{step}")
            if finished(one, sheets, step, after):
                steps = step
                break
            holds = check(one).holds
            states.add((holds, state(one)["SHA256SUMS"] == start["SHA256SUMS"]))
            give(one, *sheets)
            assert state(one) == want
            assert check(one, None, [problems]).holds and not check(one).uncovered
    # Reviews, list and mark are staged by a rename, then three files put into place.
    assert steps == 3 + 3 + 1
    # It was killed with the old bundle whole, with the new one whole, and in between.
    assert states == {(True, True), (False, True), (True, False)}


def finished(folder, sheets, step, after):
    """Whether a process that is killed at its rename number `step` comes to its end before."""
    child = os.fork()
    if child == 0:
        rename, count = os.replace, iter(range(1, 100))

        def replace(*paths):
            stop = next(count) == step
            if stop and not after:
                os._exit(9)
            rename(*paths)
            if stop:
                os._exit(9)

        os.replace = replace
        try:
            give(folder, *sheets)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is stopped by leaving its fork")
def test_an_audit_between_a_kill_and_the_same_command_loses_and_stales_nothing(folder):
    """What was made ready fits the files of then, and the audit may write others."""
    one = sheet(folder, ("1.1", "copy", ""))
    assert not finished(folder, [one], 3, True)  # the mark is there, and nothing in its place
    assert reviews.read(folder) is None and (folder / "work/review").is_dir()
    write_bundle(folder, folder / "work", evidence(3), {}, {OBSERVED: []}, report)
    assert [r.choice for r in reviews.read(folder).reviews] == ["copy"]
    assert check(folder).holds and not (folder / "work/review").exists()
    assert give(folder, one).merged.added == () and check(folder).holds


def report(folder):
    (folder / "report.html").write_text("report")


def test_what_a_killed_process_left_for_another_audit_is_forgotten(folder):
    stage = folder / "work/review"
    stage.mkdir(parents=True)
    rows = [reviewing.marks.put(stage, "report.html", b"stale")]
    reviewing.marks.vouch(stage, reviewing.MARK, "0" * 64, rows)
    done = give(folder, sheet(folder, ("1.1", "copy", "")))
    assert check(folder, done.hash).holds and not (folder / "work").exists()


@pytest.mark.parametrize("names", [
    ["../../.bashrc"], ["reviews.json", "../../.bashrc", "SHA256SUMS"], ["audit.json"],
    ["reviews.json", "report.html", "SHA256SUMS", "../../.bashrc"],
])  # fmt: skip
def test_a_mark_that_came_with_a_bundle_writes_nothing_else(folder, names):
    """A bundle comes from anybody, and its folder work with it."""
    stage = folder / "work/review"
    stage.mkdir(parents=True)
    (folder / ".bashrc").write_bytes(b"evil")  # what the name leads to from the folder review
    rows = [
        reviewing.marks.file(stage, n) if ".." in n else reviewing.marks.put(stage, n, b"evil")
        for n in names
    ]
    reviewing.marks.vouch(stage, reviewing.MARK, reviews.digest(folder), rows)
    before = {k: v for k, v in state(folder).items() if not k.startswith("work")}
    reviewing.finish(folder)
    assert state(folder) == before and not stage.exists()
    assert not (folder.parent.parent / ".bashrc").exists()


@pytest.mark.parametrize("name", ["work", "work/lock", "work/review"])
def test_no_link_of_a_bundle_is_followed(folder, tmp_path, name):
    mine = tmp_path / "mine"
    (mine / "review").mkdir(parents=True)
    for file in ("kept", "review/kept"):
        (mine / file).write_text("mine")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).symlink_to(mine / "kept" if name.endswith("lock") else mine)
    with pytest.raises(BadBundle, match=f"{name} is a link"):
        give(folder, sheet(folder, ("1.1", "copy", "")))
    assert state(mine) == {"kept": b"mine", "review/kept": b"mine"}


def test_a_full_disk_leaves_the_bundle_as_it_was(folder, monkeypatch):
    before = state(folder)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        give(folder, sheet(folder, ("1.1", "copy", "")))
    monkeypatch.undo()
    assert {k: v for k, v in state(folder).items() if not k.startswith("work")} == before
    assert check(folder).holds
    assert check(folder, give(folder, sheet(folder, ("1.1", "copy", ""))).hash).holds


@pytest.mark.parametrize(("old", "new", "said"), [
    ('"choice":"copy"', '"choice":"maybe"', "Invalid enum value"),
    ('"exhibit":"1.1"', '"exhibit":"8.1"', "no such exhibit"),
    ('"note":""', '"note":"<b>"', "a tag of HTML"),
    ('"version":1', '"version":2', "version 2"),
    ('"audit":"', '"audit":"0', "about another audit.json"),
    ('"revised":0', '"revised": 0', "not the canonical form"),
    ('"exhibit":"1.2"', '"exhibit":"1.1"', "two of one reviewer"),
    ('"revised":0', '"revised":-1', "Expected `int` >= 0"),
])  # fmt: skip
def test_verify_finds_reviews_that_do_not_fit_though_sealed_again(folder, old, new, said):
    give(folder, sheet(folder, ("1.1", "copy", ""), ("1.2", "copy", "")))
    text = (folder / FILE).read_text()
    assert old in text
    (folder / FILE).write_text(text.replace(old, new, 1))
    seal(folder)
    found = check(folder, None, [problems])
    assert len(found.problems) == 1 and said in found.problems[0]


def test_an_audit_written_again_keeps_its_reviews_and_sets_anothers_aside(folder):
    give(folder, sheet(folder, ("1.1", "copy", "")))
    data = (folder / FILE).read_bytes()
    (folder / "work").mkdir()
    reviewing.set_aside(folder)
    assert (folder / FILE).read_bytes() == data
    (folder / "audit.json").write_bytes(evidence(2).to_bytes())
    reviewing.set_aside(folder)
    assert not (folder / FILE).exists()
    (kept,) = (folder / "work").glob("reviews-*.json")
    assert kept.read_bytes() == data
    reviewing.set_aside(folder)  # there is none


@pytest.mark.parametrize(("choices", "come_to"), [
    (["copy"], "copy"), (["no copy"], "no copy"), (["unsure"], "unsure"),
    (["copy", "unsure"], "copy"), (["unsure", "no copy"], "no copy"),
    (["copy", "no copy"], "split"), (["copy", "no copy", "unsure"], "split"),
])  # fmt: skip
def test_what_choices_come_to(choices, come_to):
    assert {opinion(order) for order in permutations(choices)} == {come_to}


def test_counts_are_those_of_a_literal_count():
    choice = {("1.1", "a"): "copy", ("1.1", "b"): "copy", ("1.2", "a"): "no copy",
              ("1.2", "b"): "unsure", ("2.1", "b"): "unsure", ("3.1", "a"): "copy",
              ("3.1", "b"): "no copy", ("3.1", "c"): "unsure"}  # fmt: skip
    made = Reviews.of("0", [Review(e, w, c, "", DAY.format(1)) for (e, w), c in choice.items()])
    found = tally(made, 12)
    assert found.opinions == {"1.1": "copy", "1.2": "no copy", "2.1": "unsure", "3.1": "split"}
    assert found.disputed == ["1.2", "3.1"]
    several = [e for e in found.opinions if sum(x == e for x, _ in choice) > 1]
    apart = {
        e for (e, w), (f, v) in combinations(choice, 2)
        if e == f and w != v and choice[e, w] != choice[f, v]
    }  # fmt: skip
    assert (found.several, found.agreed) == (len(several), len(set(several) - apart)) == (3, 1)
    assert [(r.name, *r.choices.values()) for r in found.reviewers] == [
        ("a", 2, 1, 0), ("b", 1, 1, 2), ("c", 0, 0, 1),
    ]  # fmt: skip


def test_files_keep_plain_permissions(folder):
    give(folder, sheet(folder, ("1.1", "copy", "")))
    modes = {stat.S_IMODE((folder / n).stat().st_mode) for n in (FILE, "audit.json")}
    assert len(modes) == 1
