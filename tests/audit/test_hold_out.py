"""What is set apart has no near-duplicate in training, and a split is whole or refused."""

import errno
import io
import json
import os
import random
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image
from reference.toy_hold_out import split

from sidestep import files
from sidestep.audit import embedding, placing
from sidestep.audit.hold_out import HoldOut, open_hold_out
from sidestep.errors import BadData, BadRecords
from sidestep.similarity.pixels import Pixels
from sidestep.sources import pictures
from sidestep.sources.collection import open_collection
from sidestep.sources.decoders import look

pytest.importorskip("pyarrow")
pytest.importorskip("faiss")
SIDES = ("train", "held-out")


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """Decoding processes have tests of their own."""
    monkeypatch.setattr(embedding, "looks", lambda tasks, side, _: (look(t, side) for t in tasks))


def noise(seed, shift=0):
    """Blocks of noise; with a shift, a picture near the one without."""
    chance = np.random.default_rng(seed)
    pixels = chance.integers(0, 230, (16, 16, 3), dtype=np.uint8)
    near = np.random.default_rng(1000 * seed + shift).integers(0, 25 if shift else 1, pixels.shape)
    return Image.fromarray((pixels + near).astype(np.uint8))


@pytest.fixture
def source(tmp_path):
    """40 pictures, 8 of them with one to three near-duplicates, and a file that is none."""
    folder = tmp_path / "source"
    (folder / "below").mkdir(parents=True)
    for seed in range(40):
        place = folder / "below" if seed % 3 else folder
        noise(seed).save(place / f"{seed:02}.png")
        (place / f"{seed:02}.txt").write_text(f"picture {seed}\n")
        for shift in range(1, 1 + seed % 4 if seed < 12 else 1):
            noise(seed, shift).save(folder / f"near {shift} {seed:02}.png")
    lines = [json.dumps({"file_name": "near 1 01.png", "text": "near"})]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    (folder / "page.jpg").write_bytes(b"<html>")
    return folder


def placed(out):
    """Bytes of each side, sorted."""
    return {s: sorted(p.read_bytes() for p in pictures.files(out / s)) for s in SIDES}


def state(out):
    """Every file but the locks."""
    found = [p for p in out.rglob("*") if p.is_file() and p.name != "lock"]
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in found}


def test_no_near_duplicate_lies_across(source, tmp_path):
    out = tmp_path / "out"
    made = split(source, out).split
    rows = {}
    for side in SIDES:
        found = pictures.files(out / side)
        rows[side] = Pixels(4).embed(np.stack([pictures.read(p, 16) for p in found]))
    across = rows["train"] @ rows["held-out"].T
    assert across.max() < 0.9 - 1e-3  # features of the index are float16
    alike = rows["held-out"] @ rows["held-out"].T
    assert (np.triu(alike, 1) > 0.9).any()  # or nothing was tested
    assert (made.pictures, made.train + made.held_out) == (59, 58)
    assert made.unreadable == {"no JPEG, PNG or WEBP image": 1}
    assert made.held_out == round(0.3 * 58) and made.reached == made.held_out / 58
    assert open_hold_out(out) == made
    assert len(rows["held-out"]) == made.held_out


def test_pictures_are_links_with_their_captions(source, tmp_path):
    out = tmp_path / "out"
    assert split(source, out).links == 58
    captions = {i.path: i.caption for i in open_collection(str(source)).items()}
    seen = {}
    for side in SIDES:
        for item in open_collection(str(out / side)).items():
            assert (out / side / item.path).samefile(source / item.path)
            seen[item.path] = item.caption
        lines = (out / side / "metadata.jsonl").read_text().splitlines()
        assert {json.loads(r)["file_name"] for r in lines} <= set(seen)
    del captions["page.jpg"]
    assert seen == captions
    assert seen["near 1 01.png"] == "near" and seen["00.png"] == "picture 0"
    for text in out.glob("*/**/*.txt"):
        assert text.stat().st_nlink == 1  # editing a caption must not reach the source


def test_order_and_names_do_not_matter(source, tmp_path):
    split(source, tmp_path / "first")
    other = tmp_path / "other"
    other.mkdir()
    found = pictures.files(source)
    random.Random(0).shuffle(found)
    for number, path in enumerate(found):
        shutil.copy(path, other / f"{number}{path.suffix}")
    split(other, tmp_path / "second")
    assert placed(tmp_path / "first") == placed(tmp_path / "second")


def archived(source, path):
    """The pictures as a tar archive with names that want to leave the folder."""
    with tarfile.open(path, "w") as archive:
        for number, file in enumerate(pictures.files(source)):
            for suffix, data in ((file.suffix, file.read_bytes()), (".txt", b"said")):
                member = tarfile.TarInfo(f"../../out of {number}{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def tabled(source, path):
    import pyarrow
    import pyarrow.parquet

    data = [p.read_bytes() for p in pictures.files(source)]
    pyarrow.parquet.write_table(pyarrow.table({"image": data, "text": ["said"] * len(data)}), path)


@pytest.mark.parametrize(("write", "name"), [(archived, "a.tar"), (tabled, "a.parquet")])
def test_archives_and_tables_become_files_inside_the_folder(source, tmp_path, write, name):
    split(source, tmp_path / "first")
    packed = tmp_path / "packed"
    packed.mkdir()
    write(source, packed / name)
    before = {p for p in tmp_path.rglob("*") if not p.is_dir()}
    out = tmp_path / "out"
    assert split(packed, out).copies == 58
    assert placed(out) == placed(tmp_path / "first")
    now = {p for p in tmp_path.rglob("*") if not p.is_dir()}
    assert all(p.is_relative_to(out) for p in now - before)
    for side in SIDES:
        assert {i.caption for i in open_collection(str(out / side)).items()} == {"said"}


def test_without_hard_links_pictures_are_copied(source, tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(placing.os, "link", none)
    made = split(source, tmp_path / "out")
    assert (made.links, made.copies) == (0, 58)
    split(source, tmp_path / "linked")
    assert placed(tmp_path / "out") == placed(tmp_path / "linked")


def test_a_full_disk_at_any_write_stops_and_the_same_command_goes_on(source, tmp_path, monkeypatch):
    split(source, tmp_path / "whole")
    whole, out, fsync, link = state(tmp_path / "whole"), tmp_path / "out", os.fsync, os.link
    left, stops = 0, 0

    def full(call):
        def limited(*given):
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return call(*given)

        return limited

    monkeypatch.setattr(files.os, "fsync", full(fsync))
    monkeypatch.setattr(placing.os, "link", full(link))
    for turn in range(60):
        left = 3 + turn  # rises, because index and captions are looked at again
        try:
            split(source, out)
            break
        except OSError as error:
            assert error.errno == errno.ENOSPC
            stops += 1
            assert not list(out.rglob("*.tmp"))
            with pytest.raises(BadRecords):
                open_hold_out(out)
    assert stops >= 3
    assert state(out) == whole


def test_a_finished_split_is_checked_and_mended(source, tmp_path):
    out = tmp_path / "out"
    split(source, out)
    before = state(out)
    victims = [next((out / side).rglob("*.png")) for side in SIDES]
    victims[0].unlink()
    victims[1].unlink()
    victims[1].write_bytes(b"other")
    (out / "held-out" / "metadata.jsonl").write_text("")
    with pytest.raises(BadRecords, match="changed afterwards"):
        open_hold_out(out)
    split(source, out)
    assert state(out) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda s: noise(99).save(s / "new.png"),
        lambda s: (s / "00.png").unlink(),
        lambda s: (s / "00.txt").write_text("another caption"),
        lambda s: (s / "page.jpg").write_bytes(b"other"),
        lambda s: ((s / "00.png").unlink(), noise(99).save(s / "00.png")),
    ],
)
def test_another_source_is_refused(source, tmp_path, change):
    out = tmp_path / "out"
    split(source, out)
    before = placed(out)
    change(source)
    with pytest.raises(BadRecords, match="made of another source"):
        split(source, out)
    assert placed(out) == before


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"share": 0.2}, "has share 0.3, and share 0.2 came"),
        ({"similarity": 0.8}, "has similarity 0.9, and similarity 0.8 came"),
        ({"side": 32}, "has side 16"),
    ],
)
def test_other_settings_are_refused(source, tmp_path, settings, said):
    split(source, tmp_path / "out")
    with pytest.raises(BadRecords, match=said):
        split(source, tmp_path / "out", **settings)


def test_files_of_others_are_refused_before_and_after(source, tmp_path):
    out = tmp_path / "out"
    (out / "train").mkdir(parents=True)
    noise(5).save(out / "train" / "mine.png")
    with pytest.raises(BadRecords, match=r"mine\.png does not belong"):
        split(source, out)
    assert not (out / "index").exists()
    (out / "train" / "mine.png").unlink()
    split(source, out)
    noise(5).save(out / "held-out" / "mine.png")
    with pytest.raises(BadRecords, match=r"mine\.png does not belong"):
        split(source, out)


def test_pictures_of_an_earlier_split_keep_their_sides(source, tmp_path):
    first = tmp_path / "first"
    split(source, first)
    before = placed(first)
    for seed in range(50, 90):
        noise(seed).save(source / f"{seed}.png")
    made = split(source, tmp_path / "second", earlier=first).split
    after = placed(tmp_path / "second")
    assert made.moved == 0 and made.held_out == round(0.3 * 98)
    for side in SIDES:
        assert set(before[side]) <= set(after[side])
    with pytest.raises(BadRecords, match="has earlier"):
        split(source, tmp_path / "second")


@pytest.mark.parametrize("settings", [{"share": 0.005}, {"similarity": 0.1}])
def test_an_empty_side_is_refused_and_nothing_is_placed(source, tmp_path, settings):
    with pytest.raises(BadData, match="nothing can be set apart"):
        split(source, tmp_path / "out", **settings)
    assert not (tmp_path / "out" / "train").exists()
    with pytest.raises(BadRecords, match="holds no pictures set apart"):
        HoldOut.read(tmp_path / "out")
    split(source, tmp_path / "out")  # no choice was made, so another setting may be
