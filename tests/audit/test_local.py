"""Local copies are found where they are, and exactly as comparing every pair would find them."""

from itertools import product

import numpy as np
import pytest
from PIL import Image

from sidestep.audit import build as building
from sidestep.audit import embedding, local
from sidestep.audit.index import open_index
from sidestep.audit.local import Match, calibrate_tiles, local_copies, nearest_tiles
from sidestep.errors import BadRecords
from sidestep.similarity.pixels import Pixels
from sidestep.similarity.structured import Structured
from sidestep.sources.collection import open_collection
from sidestep.sources.decoders import look
from sidestep.sources.tiles import Tiles
from sidestep.sources.windows import Window

pytest.importorskip("pyarrow")
pytest.importorskip("faiss")
SIDE, RECIPE = 32, Structured(Pixels(8))


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """Decoding processes have tests of their own."""
    monkeypatch.setattr(embedding, "looks", lambda tasks, side, _: (look(t, side) for t in tasks))


def picture(seed, side=SIDE):
    """Blocks of 4 pixels in random colours: structure that averaging leaves."""
    coarse = np.random.default_rng(seed).integers(0, 256, (side // 4, side // 4, 3), np.uint8)
    return coarse.repeat(4, 0).repeat(4, 1)


def build(source, out, grid=3, recipe=RECIPE, side=SIDE):
    collection = open_collection(str(source))
    return building.build_index(
        Tiles(collection, grid) if grid else collection, out, recipe, side=side,
        pictures_per_shard=20,
    )  # fmt: skip


@pytest.fixture
def source(tmp_path):
    """Ten pictures, one of them there twice, one half flat, one flat."""
    folder = tmp_path / "source"
    folder.mkdir()
    images = [picture(n) for n in range(10)]
    images[7] = images[3]
    images[8][:, 8:] = 200
    images[9][:] = 120
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def index(source, tmp_path):
    build(source, tmp_path / "index")
    return open_index(tmp_path / "index")


def planted(to=(0.375, 0.25)):
    """Pictures of other seeds with the middle of picture 3 at a place in their squares."""
    left, top = (int(SIDE * share) for share in to)
    images = np.stack([picture(n) for n in range(100, 104)])
    for image in images:
        image[top : top + 16, left : left + 16] = picture(3)[8:24, 8:24]
    return images


def slow(images, source, finer):
    """Every window against every window, one pair at a time, with loops of its own."""
    found, step = [], 8
    training = sorted(source.glob("*.png"))
    for image in images:
        best = (0.0, None, None, None)
        for top, left in product(range(0, 17, step // finer), repeat=2):
            a = RECIPE.embed(image[None, top : top + 16, left : left + 16])[0].astype(np.float64)
            for file in training:
                square = np.asarray(Image.open(file))
                for up, aside in product((0, 8, 16), repeat=2):
                    tile = square[None, up : up + 16, aside : aside + 16]
                    b = RECIPE.embed(tile)[0].astype(np.float16).astype(np.float64)
                    if (similarity := np.float32(a @ b)) > best[0]:
                        place = (aside / SIDE, up / SIDE, 0.5), (left / SIDE, top / SIDE, 0.5)
                        best = (float(similarity), file.name, *place)
        found.append(best)
    return found


@pytest.mark.parametrize("finer", [1, 2])
def test_it_is_every_pair_of_windows_compared(index, source, finer, monkeypatch):
    monkeypatch.setattr(local, "ROWS", 60)  # several parts
    images = np.concatenate([planted(), picture(300)[None]])
    found = nearest_tiles(images, index, RECIPE, finer)
    for match, (similarity, path, there, here) in zip(
        found, slow(images, source, finer), strict=True
    ):
        # einsum and a dot product sum 192 numbers in another order, then round once to float32.
        assert match.similarity == pytest.approx(similarity, abs=1e-7)
        assert (match.path, match.there, match.here) == (path, there, here)
    tiles = {p.id: p.path for p in index.pictures()}
    assert all(tiles[m.id] == m.path + m.there.fragment for m in found)


def test_a_paste_between_the_places_of_the_grid_is_found_by_finer_windows(index):
    expected = ("3.png", Window(0.25, 0.25, 0.5), Window(0.375, 0.25, 0.5))
    for match in nearest_tiles(planted(), index, RECIPE, 2):
        assert match.similarity == pytest.approx(1, abs=1e-3)  # rows are stored in float16
        assert (match.path, match.there, match.here) == expected
    coarse = nearest_tiles(planted(), index, RECIPE, 1)
    assert all(m.similarity < 0.9 for m in coarse)


def test_flat_tiles_match_nothing(index):
    flat = np.full((2, SIDE, SIDE, 3), 120, np.uint8)
    flat[1, :, :20] = 0  # an edge
    assert nearest_tiles(flat, index, RECIPE) == [None, None]
    assert nearest_tiles(flat[:0], index, RECIPE) == []


def test_local_copies_are_above_the_threshold_and_no_global_copies(index):
    controls = np.stack([picture(n) for n in range(200, 219)])
    calibration = calibrate_tiles(controls, index, RECIPE, rate=0.05)
    nearest = [m.similarity for m in nearest_tiles(controls, index, RECIPE)]
    assert calibration.threshold == max(nearest)  # 19 controls at 1 in 20
    images = np.concatenate([planted(), controls[:2]])
    whole = np.array([True, False, False, False, False, False])
    found = local_copies(images, whole, index, RECIPE, calibration)
    assert [isinstance(m, Match) for m in found] == [False, True, True, True, False, False]
    assert found[1:4] == nearest_tiles(images[1:4], index, RECIPE)
    with pytest.raises(ValueError, match=r"finer 2 and the search is .* finer 1"):
        local_copies(images, whole, index, RECIPE, calibration, finer=1)
    with pytest.raises(ValueError, match="one True or False for each"):
        local_copies(images, whole[:2], index, RECIPE, calibration)


def test_an_index_keeps_its_grid(index, source):
    out = index.folder
    assert index.settings.tiles == 3 and len(index.ids) == 90
    before = (out / "complete.json").read_bytes()
    assert build(source, out).unchanged == 90
    with pytest.raises(BadRecords, match="is of 3 x 3 tiles of each picture, and 4 x 4 tiles"):
        build(source, out, 4)
    with pytest.raises(BadRecords, match="and whole pictures came"):
        build(source, out, None)
    assert (out / "complete.json").read_bytes() == before


def test_what_cannot_be_searched_is_refused(index, source, tmp_path):
    with pytest.raises(BadRecords, match="their similarities do not compare"):
        nearest_tiles(planted(), index, Pixels(8))
    with pytest.raises(ValueError, match="of side 32; frame them"):
        nearest_tiles(planted()[:, :30], index, RECIPE)
    with pytest.raises(ValueError, match="finer be at least 1"):
        nearest_tiles(planted(), index, RECIPE, 0)
    build(source, tmp_path / "whole", None)
    with pytest.raises(BadRecords, match="is of whole pictures"):
        nearest_tiles(planted(), open_index(tmp_path / "whole"), RECIPE)
