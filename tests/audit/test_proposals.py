"""What is proposed are the most similar pairs of windows, of each training picture the first."""

from itertools import product

import numpy as np
import pytest
from PIL import Image
from reference.structured_pictures import draw, picture

from sidestep.audit import embedding
from sidestep.audit import proposals as proposing
from sidestep.audit.build import build_index
from sidestep.audit.index import open_index
from sidestep.audit.proposals import proposals
from sidestep.errors import BadRecords
from sidestep.similarity.pixels import Pixels
from sidestep.similarity.structured import Structured
from sidestep.sources.collection import open_collection
from sidestep.sources.decoders import look
from sidestep.sources.tiles import Tiles

pytest.importorskip("pyarrow")
pytest.importorskip("faiss")
SIDE, RECIPE = 32, Structured(Pixels(8))


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """Decoding processes have tests of their own."""
    monkeypatch.setattr(embedding, "looks", lambda tasks, side, _: (look(t, side) for t in tasks))


@pytest.fixture
def source(tmp_path):
    return draw(tmp_path / "source", 12)


@pytest.fixture
def index(source, tmp_path):
    tiles = Tiles(open_collection(str(source)), 3)
    build_index(tiles, tmp_path / "index", RECIPE, side=SIDE, pictures_per_shard=20)
    return open_index(tmp_path / "index")


def slow(image, source, finer, most):
    """Every window against every tile, one by one; of each picture the best, then sorted."""
    best = {}
    for file in sorted(source.glob("*.png")):
        square = np.asarray(Image.open(file))
        for top, left in product(range(0, 17, 8 // finer), repeat=2):
            a = RECIPE.embed(image[None, top : top + 16, left : left + 16])[0].astype(np.float64)
            for up, aside in product((0, 8, 16), repeat=2):
                tile = square[None, up : up + 16, aside : aside + 16]
                b = RECIPE.embed(tile)[0].astype(np.float16).astype(np.float64)
                if (similarity := float(np.float32(a @ b))) > best.get(file.name, (0,))[0]:
                    place = (aside / SIDE, up / SIDE, 0.5), (left / SIDE, top / SIDE, 0.5)
                    best[file.name] = (similarity, *place)
    ordered = sorted(((v, name) for name, v in best.items()), key=lambda pair: -pair[0][0])
    return [(name, *v) for v, name in ordered[:most]]


@pytest.mark.parametrize("finer", [1, 2])
def test_it_is_every_pair_of_windows_compared(index, source, finer, monkeypatch):
    monkeypatch.setattr(proposing, "ROWS", 60)  # several parts
    monkeypatch.setattr(proposing, "MOST", 4)
    images = np.stack([picture(100), picture(101), picture(300)])
    images[0, 8:24, 12:28] = picture(5)[8:24, 8:24]
    for image, found in zip(images, proposals(images, index, RECIPE, finer), strict=True):
        expected = slow(image, source, finer, 4)
        # einsum and a dot product sum 192 numbers in another order, then round once to float32.
        assert [p.similarity for p in found] == pytest.approx([e[1] for e in expected], abs=1e-7)
        assert [(p.path, p.there, p.here) for p in found] == [
            (name, there, here) for name, _, there, here in expected
        ]


def test_equal_pictures_are_proposed_in_their_order(index):
    image = picture(100)
    image[8:24, 8:24] = picture(3)[8:24, 8:24]
    (found,) = proposals(image[None], index, RECIPE, 1)
    assert [p.path for p in found[:2]] == ["03.png", "07.png"]
    assert found[0].similarity == pytest.approx(1, abs=1e-3)  # rows are stored in float16
    assert len(found) <= proposing.MOST and len({p.path for p in found}) == len(found)
    assert all(p.tile.path == p.path + p.there.fragment for p in found)


def test_flat_windows_propose_nothing(index):
    flat = np.full((2, SIDE, SIDE, 3), 120, np.uint8)
    flat[1, :, :20] = 0  # an edge
    assert list(proposals(flat, index, RECIPE, 2)) == [[], []]
    assert list(proposals(flat[:0], index, RECIPE, 2)) == []


def test_an_index_of_whole_pictures_is_refused(source, tmp_path):
    build_index(open_collection(str(source)), tmp_path / "whole", RECIPE, side=SIDE)
    with pytest.raises(BadRecords, match="is of whole pictures"):
        next(proposals(picture(0)[None], open_index(tmp_path / "whole"), RECIPE, 2))
