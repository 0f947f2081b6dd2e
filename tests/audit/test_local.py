"""Local copies are found where they are, by pixels, and as often as docs/audit.md says."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from reference.structured_pictures import draw, picture

from sidestep.audit import build as building
from sidestep.audit import embedding, local
from sidestep.audit.index import open_index
from sidestep.audit.local import Match, Tiled, calibrate_parts, local_copies, nearest_parts
from sidestep.errors import BadRecords
from sidestep.models.embedded import drawings, pictures
from sidestep.similarity.patches import concordance
from sidestep.similarity.pixels import Pixels
from sidestep.similarity.structured import Structured
from sidestep.sources.base import Item
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


def build(source, out, grid=3):
    collection = open_collection(str(source))
    return building.build_index(
        Tiles(collection, grid) if grid else collection, out, RECIPE, side=SIDE,
        pictures_per_shard=20,
    )  # fmt: skip


@pytest.fixture
def source(tmp_path):
    return draw(tmp_path / "source", 10)


@pytest.fixture
def tiled(source, tmp_path):
    build(source, tmp_path / "index")
    return Tiled(open_index(tmp_path / "index"), open_collection(str(source)), RECIPE)


def planted(left=13, top=9):
    """Pictures of other seeds with the middle of picture 3 at a place beside the grid."""
    images = np.stack([picture(n) for n in range(100, 104)])
    for image in images:
        image[top : top + 16, left : left + 16] = picture(3)[8:24, 8:24]
    return images


def test_a_part_between_the_places_of_every_grid_is_found_to_the_pixel(tiled):
    images = planted()
    for image, match in zip(images, nearest_parts(images, tiled), strict=True):
        assert match.similarity == 1 and match.path == "03.png"
        here, there = match.here, match.there
        assert here.side == there.side == 0.25  # half a tile
        assert (SIDE * (here.left - there.left), SIDE * (here.top - there.top)) == (5, 1)
        # The similarity is that of the pixels in the windows.
        assert concordance(here.cut(image), there.cut(picture(3))) == 1
        assert match.id in {p.id for p in tiled.index.pictures() if p.path.startswith("03.png#")}


def test_batches_and_passes_change_nothing(tiled, monkeypatch):
    images = np.concatenate([planted(), [picture(n) for n in range(300, 305)]])
    found = nearest_parts(images, tiled)
    assert nearest_parts(iter(images), tiled) == found
    monkeypatch.setattr(local, "PICTURES", 4)
    monkeypatch.setattr(local, "ROWS", 60)
    assert nearest_parts(images, tiled) == found
    assert [nearest_parts([image], tiled)[0] for image in images] == found


def test_what_is_proposed_first_wins_among_equals_in_any_order_of_the_collection(tiled):
    class Backwards:
        def count(self):
            return tiled.pictures.count()

        def items(self):
            yield from reversed(list(tiled.pictures.items()))

    found = nearest_parts(planted(), Tiled(tiled.index, Backwards(), RECIPE))
    assert found == nearest_parts(planted(), tiled)
    assert {m.path for m in found} == {"03.png"}  # 07.png has the same pixels


def test_training_pictures_are_read_one_at_a_time_and_only_if_proposed(tiled, monkeypatch):
    class Counted:
        passes = 0

        def count(self):
            return tiled.pictures.count()

        def items(self):
            self.passes += 1
            yield from tiled.pictures.items()

    read, counted = [], Counted()

    def looked(task, side):
        read.append(task.data.name)
        return look(task, side)

    monkeypatch.setattr(local, "look", looked)
    monkeypatch.setattr(local, "PICTURES", 2)
    nearest_parts(planted(), Tiled(tiled.index, counted, RECIPE))
    assert counted.passes == 2 and "09.png" not in read
    assert max(read.count(name) for name in read) <= 2  # once in each pass


def test_flat_pictures_hold_nothing(tiled):
    flat = np.full((2, SIDE, SIDE, 3), 120, np.uint8)
    flat[1, :, :20] = 0  # an edge
    assert nearest_parts(flat, tiled) == [None, None]
    assert nearest_parts([], tiled) == []


def test_local_copies_are_above_the_threshold(tiled):
    controls = np.stack([picture(n) for n in range(200, 219)])
    calibration = calibrate_parts(controls, tiled, rate=0.05)
    nearest = [m.similarity for m in nearest_parts(controls, tiled)]
    assert calibration.threshold == max(nearest)  # 19 controls at 1 in 20
    images = np.concatenate([planted(), controls[:2]])
    found = local_copies(images, tiled, calibration)
    assert [isinstance(m, Match) for m in found] == [True, True, True, True, False, False]
    assert found[:4] == nearest_parts(images[:4], tiled)
    other = Tiled(tiled.index, tiled.pictures, RECIPE, finer=1)
    with pytest.raises(ValueError, match=r"finer 2 and the search is .* finer 1"):
        local_copies(images, other, calibration)


def test_pictures_that_are_no_longer_those_of_the_index_are_refused(tiled, source):
    Image.fromarray(picture(55)).save(source / "03.png")
    with pytest.raises(BadRecords, match=r"3\.png is not the picture .*its bytes changed"):
        nearest_parts(planted(), tiled)
    (source / "03.png").write_bytes(b"no picture")
    with pytest.raises(BadRecords, match=r"3\.png is not the picture that was indexed"):
        nearest_parts(planted(), tiled)
    (source / "03.png").unlink()
    gone = Tiled(tiled.index, open_collection(str(source)), RECIPE)
    with pytest.raises(BadRecords, match=r"3\.png is in the index .* not among the training"):
        nearest_parts(planted(), gone)


def test_an_index_keeps_its_grid(tiled, source):
    out = tiled.index.folder
    assert tiled.index.settings.tiles == 3 and len(tiled.index.ids) == 90
    before = (out / "complete.json").read_bytes()
    assert build(source, out).unchanged == 90
    with pytest.raises(BadRecords, match="is of 3 x 3 tiles of each picture, and 4 x 4 tiles"):
        build(source, out, 4)
    with pytest.raises(BadRecords, match="and whole pictures came"):
        build(source, out, None)
    assert (out / "complete.json").read_bytes() == before


def test_what_cannot_be_searched_is_refused(tiled, source, tmp_path):
    index, training = tiled.index, tiled.pictures
    with pytest.raises(BadRecords, match="their similarities do not compare"):
        nearest_parts(planted(), Tiled(index, training, Structured(Pixels(9))))
    with pytest.raises(ValueError, match="of side 32; frame pictures"):
        nearest_parts(planted()[:, :30], tiled)
    with pytest.raises(ValueError, match="finer be at least 1"):
        nearest_parts(planted(), Tiled(index, training, RECIPE, 0))
    build(source, tmp_path / "whole", None)
    with pytest.raises(BadRecords, match="is of whole pictures"):
        nearest_parts(planted(), Tiled(open_index(tmp_path / "whole"), training, RECIPE))


class Memory:
    """Pictures of the embedded model as PNG files in memory."""

    def __init__(self, found):
        self.found = found

    def count(self):
        return len(self.found)

    def items(self):
        for one in self.found:
            file = BytesIO()
            Image.fromarray(one.pixels).save(file, "PNG")
            yield Item(one.id, file.getvalue(), one.caption)


def never(first, count):
    held = sorted(set(drawings.by_caption()) - set(pictures.concepts()))
    np.random.default_rng(1).shuffle(held)
    rows = [drawings.by_caption()[caption][0] for caption in held[first : first + count]]
    return np.stack([pictures.compose(d, f"never/{d.number}") for d in rows])


def pasted(width, of, grounds):
    """Parts of training pictures at any place in others, and the ids of their pictures."""
    chance, images, ids = np.random.default_rng(3), grounds.copy(), []
    for image in images:
        part = np.zeros((1, 1, 3))
        while part.std(axis=(0, 1)).max() < 25:  # as benchmarks/local_copies.py: no bare ground
            source = of[int(chance.integers(len(of)))]
            left, top = chance.integers(0, 64 - width + 1, 2)
            part = source.pixels[top : top + width, left : left + width]
        left, top = chance.integers(0, 64 - width + 1, 2)
        image[top : top + width, left : left + width] = part
        ids.append(source.id)
    return images, ids


@pytest.mark.slow
def test_most_parts_off_the_grid_are_found_at_the_rate_of_false_alarms(tmp_path):
    every = pictures.training_pictures()
    training = Memory(every[:30] + every[30::90])
    building.build_index(Tiles(training, 5), tmp_path, RECIPE, side=64)
    tiled = Tiled(open_index(tmp_path), training, RECIPE)
    calibration = calibrate_parts(never(0, 100), tiled, rate=0.02)
    alarms = sum(m is not None for m in local_copies(never(100, 100), tiled, calibration))
    found = {}
    for width in (32, 24):
        images, ids = pasted(width, training.found, never(200, 30))
        matches = local_copies(images, tiled, calibration)
        found[width] = sum(m is not None and m.path == i for m, i in zip(matches, ids, strict=True))
    # The 2nd of 100: beta-binomial (100, 2, 99) is above 8 with a chance of 0.9 %. It was 1.
    assert alarms <= 8
    # They were 21 and 9 of 30; another arithmetic may move a few over the threshold. By features of
    # tiles alone benchmarks/local_copies.py finds 7 and 3 % of parts like these.
    assert found[32] >= 17 and found[24] >= 6
