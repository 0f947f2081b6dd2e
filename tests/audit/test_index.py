"""An index holds what the collection holds now, and nothing in it changes unnoticed."""

import os

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image
from reference.toy_index import build

from sidestep.audit import build as building
from sidestep.audit import embedding
from sidestep.audit.index import open_index
from sidestep.errors import BadData, BadRecords
from sidestep.runs import marks
from sidestep.similarity.pixels import Pixels
from sidestep.similarity.search import nearest
from sidestep.sources import pictures
from sidestep.sources.decoders import look

pytest.importorskip("pyarrow")


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """Decoding processes have tests of their own."""
    monkeypatch.setattr(
        embedding, "looks", lambda tasks, side, workers: (look(t, side) for t in tasks)
    )


def picture(path, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.fixture
def source(tmp_path):
    """12 pictures with captions, and three files that are none."""
    folder = tmp_path / "source"
    for number in range(12):
        picture(folder / f"{number:02}.png", number)
        (folder / f"{number:02}.txt").write_text(f"picture {number}\n")
    (folder / "03.jpg").write_bytes(b"<html>")
    (folder / "05.jpg").write_bytes((folder / "05.png").read_bytes()[:100])
    (folder / "sub").mkdir()
    (folder / "sub" / "a.webp").write_bytes(b"")
    return folder


def state(out):
    """Every byte of an index."""
    files = [p for p in out.rglob("*") if p.is_file() and p.name != building.LOCK]
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in files}


def rows_of(index):
    return np.concatenate([b.rows for b in index.rows()])


def test_rows_are_the_recipes_of_the_framed_pictures(source, tmp_path):
    built = build(source, tmp_path / "index")
    assert (built.images, built.new, built.unchanged, built.removed) == (15, 15, 0, 0)
    assert sum(built.unreadable.values()) == 3
    index = open_index(tmp_path / "index")
    ok = [p for p in index.pictures() if p.status == "ok"]
    assert [p.id for p in ok] == list(index.ids)
    expected = [pictures.read(source / p.path, 16) for p in ok]
    np.testing.assert_array_equal(
        rows_of(index), Pixels(4).embed(np.stack(expected)).astype(np.float16)
    )


def test_every_picture_has_its_row_of_facts(source, tmp_path):
    build(source, tmp_path / "index")
    facts = {p.path: p for p in open_index(tmp_path / "index").pictures()}
    assert list(facts) == sorted(facts)
    assert len({p.id for p in facts.values()}) == 15
    assert facts["04.png"].caption == "picture 4"
    assert facts["04.png"].size == (source / "04.png").stat().st_size
    assert facts["04.png"].sha256 == marks.file(source, "04.png").sha256
    assert facts["sub/a.webp"].caption is None
    bad = {path: p.reason for path, p in facts.items() if p.status == "unreadable"}
    assert set(bad) == {"03.jpg", "05.jpg", "sub/a.webp"}
    assert all(bad.values())


def test_search_is_search_in_memory(source, tmp_path):
    build(source, tmp_path / "index")
    index = open_index(tmp_path / "index")
    queries = Pixels(4).embed(np.stack([picture(tmp_path / "q.png", s) for s in (3, 7, 99)]))
    found = index.search(queries, 4)
    scores, numbers = nearest(queries, rows_of(index).astype(np.float32), 4)
    np.testing.assert_array_equal(found.similarity, scores)
    np.testing.assert_array_equal(found.ids, index.ids[numbers])
    paths = {p.id: p.path for p in index.pictures()}
    assert [paths[i] for i in found.ids[:2, 0]] == ["03.png", "07.png"]
    with pytest.raises(ValueError, match=r"k is 13; it must lie in 1\.\.12"):
        index.search(queries, 13)
    with pytest.raises(ValueError, match="from the recipe"):
        index.search(queries[:, :5])
    with pytest.raises(ValueError, match="not finite"):
        index.search(queries * np.nan)


def test_only_new_and_changed_pictures_are_embedded(source, tmp_path, monkeypatch):
    out = tmp_path / "index"
    build(source, out)
    before = {p.path: (p.id, row) for p, row in _with_rows(open_index(out))}
    first = state(out)
    embedded, embed = [], Pixels.embed
    monkeypatch.setattr(Pixels, "embed", lambda s, x: embedded.append(len(x)) or embed(s, x))
    built = build(source, out)
    assert (built.new, built.unchanged, built.removed) == (0, 15, 0)
    assert state(out) == first
    assert sum(embedded) == 1  # the blank one that says how long a row is
    picture(source / "02.png", 50)
    picture(source / "aa.png", 51)
    (source / "07.png").unlink()
    (source / "08.txt").write_text("other words")
    picture(source / "05.jpg", 52)
    embedded.clear()
    built = build(source, out)
    assert (built.images, built.new, built.unchanged, built.removed) == (15, 3, 12, 1)
    assert (built.recaptioned, sum(built.unreadable.values())) == (1, 2)
    assert sum(embedded) == 1 + 3
    after = {p.path: (p, row) for p, row in _with_rows(open_index(out))}
    assert set(after) == {p.name for p in source.iterdir() if p.suffix == ".png"} | {"05.jpg"}
    assert after["08.png"][0].caption == "other words"
    for path, (id_, row) in before.items():
        if path in after:
            assert (after[path][0].id == id_) == (path != "02.png")
            assert np.array_equal(after[path][1], row) == (path != "02.png")
    # Nothing of a removed picture stays, its features included.
    gone = before["07.png"][1].tobytes()
    assert not [name for name, data in state(out).items() if gone in data]


def _with_rows(index):
    ok = (p for p in index.pictures() if p.status == "ok")
    return list(zip(ok, rows_of(index), strict=True))


class Stop(BaseException):
    """The process is gone."""


def test_stopped_before_any_write_it_ends_with_the_same_bytes(source, tmp_path, monkeypatch):
    rename, room = os.replace, [10**6]

    def replace(*paths):
        room[0] -= 1
        if room[0] < 0:
            raise Stop
        rename(*paths)

    monkeypatch.setattr(os, "replace", replace)
    saved = {p: p.read_bytes() for p in source.rglob("*") if p.is_file()}

    def original():
        for path in source.rglob("*"):
            if path.is_file() and path not in saved:
                path.unlink()
        for path, data in saved.items():
            path.write_bytes(data)

    def change():
        picture(source / "02.png", 50)
        picture(source / "zz.png", 51)
        for number in range(3, 8):  # the whole of a shard among them
            (source / f"{number:02}.png").unlink()
        (source / "11.txt").write_text("other words")

    def whole(out):
        room[0] = 10**6
        build(source, out)
        return state(out)

    first = whole(tmp_path / "whole")
    change()
    second = whole(tmp_path / "whole")
    stops = 0
    for writes in range(40):
        out = tmp_path / str(writes)
        original()
        for expected, prepare in ((first, original), (second, change)):
            prepare()
            room[0] = writes
            try:
                build(source, out)
            except Stop:
                stops += 1
                assert _opens_only_as(out, first, second)
            assert whole(out) == expected
    assert stops >= 20


def _opens_only_as(out, *states):
    """A stopped build leaves an index that is refused, or is one of the finished ones."""
    try:
        index = open_index(out)
    except BadRecords:
        return True
    list(index.rows())
    complete = (out / "complete.json").read_bytes()
    return complete in [s["complete.json"] for s in states]


def test_a_changed_byte_is_noticed_and_repaired(source, tmp_path):
    out = tmp_path / "index"
    build(source, out)
    whole = state(out)
    for name in whole:
        data = bytearray(whole[name])
        data[len(data) // 2] ^= 1
        (out / name).write_bytes(data)
        with pytest.raises(BadRecords):
            index = open_index(out)
            list(index.rows()), list(index.pictures())
        if name != "index.json":
            build(source, out)
            index = open_index(out)
            assert len(index.ids) == len(rows_of(index)) == 12
        for path in (out / "shards").iterdir():
            path.unlink()
        for path, kept in whole.items():
            (out / path).write_bytes(kept)


def test_another_recipe_or_side_is_refused(source, tmp_path):
    out = tmp_path / "index"
    build(source, out)
    before = state(out)
    with pytest.raises(BadRecords, match="has side 16 and 5"):
        build(source, out, side=32)
    with pytest.raises(BadRecords, match="is of pixels-4, and pixels-8 came"):
        building.build_index(_nothing(), out, Pixels(8), side=16, pictures_per_shard=5)
    with pytest.raises(BadRecords, match="pixels-8 came"):
        open_index(out).check_recipe(Pixels(8))
    open_index(out).check_recipe(Pixels(4))
    assert state(out) == before


class _nothing:
    def count(self):
        return 0

    def items(self):
        return iter(())


def test_an_empty_collection_does_not_empty_an_index(source, tmp_path):
    out = tmp_path / "index"
    build(source, out)
    before = state(out)
    with pytest.raises(BadData, match="stays as it is"):
        building.build_index(_nothing(), out, Pixels(4), side=16, pictures_per_shard=5)
    assert state(out) == before


def test_two_builders_do_not_share_a_folder(source, tmp_path):
    out = tmp_path / "index"
    build(source, out)
    with FileLock(out / building.LOCK), pytest.raises(BadRecords, match="another process"):
        build(source, out)


def test_what_is_no_finished_index_is_refused(tmp_path, source):
    with pytest.raises(BadRecords, match="is no index of training pictures"):
        open_index(tmp_path)
    build(source, tmp_path / "index")
    (tmp_path / "index" / "complete.json").unlink()
    with pytest.raises(BadRecords, match="not finished"):
        open_index(tmp_path / "index")
