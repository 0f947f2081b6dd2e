"""Units embedded anywhere, by builds that are killed anywhere, give the bytes of one process."""

import io
import shutil
import tarfile
from functools import partial
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image
from reference import toy_index
from reference.killed import Mortal
from reference.toy_index import Together, build, build_on_ray

from sidestep.audit import embedding, embedding_on_ray
from sidestep.audit.embedding import How, embedded, here
from sidestep.audit.index import open_index
from sidestep.errors import BadData
from sidestep.runs import marks
from sidestep.sources.decoders import Look, Task, look

pytest.importorskip("pyarrow")
on_ray = pytest.mark.skipif(
    find_spec("ray") is None, reason="Ray is not installed: pip install ray"
)


def drawn(seed):
    """A picture as the bytes of a PNG file."""
    memory, chance = io.BytesIO(), np.random.default_rng(seed)
    Image.fromarray(chance.integers(0, 256, (40, 40, 3), np.uint8)).save(memory, "PNG")
    return memory.getvalue()


@pytest.fixture
def source(tmp_path):
    """40 pictures, two of which are none and one of which is cut off."""
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number:02}.png").write_bytes(drawn(number))
    (folder / "07.png").write_bytes(b"<html>")
    (folder / "08.png").write_bytes(b"")
    (folder / "33.png").write_bytes(drawn(33)[:300])
    return folder


def change(source):
    """New, changed and removed pictures."""
    for number in (3, 4, 21, 33):
        (source / f"{number:02}.png").write_bytes(drawn(100 + number))
    for number in (50, 51, 52):
        (source / f"0{number}.png").write_bytes(drawn(number))
    for number in range(12, 19):
        (source / f"{number:02}.png").unlink()


def state(out):
    files = [p for p in out.rglob("*") if p.is_file() and p.name != "lock" and p.suffix != ".tmp"]
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in files}


def shards(out):
    """Pictures of each shard, in the order of their numbers."""
    index = open_index(out)
    return [len(b.rows) for b in index.rows()]


@pytest.fixture
def small(monkeypatch):
    """Units of 4, of which three fit into a shard of 13."""
    monkeypatch.setattr(embedding, "UNIT", 4)
    return {"recipe": Together(4), "batch": 3, "pictures_per_shard": 13}


def test_a_shard_is_whole_units(source, tmp_path, small):
    for path in ("07", "08", "33"):
        (source / f"{path}.png").write_bytes(drawn(int(path)))
    build(source, tmp_path / "index", **small)
    assert shards(tmp_path / "index") == [12, 12, 12, 4]


class Stop(BaseException):
    """The process is gone."""


def test_where_a_build_is_stopped_moves_no_batch(source, tmp_path, small, monkeypatch):
    """The recipe gives other rows for other batches, so one picture elsewhere would show."""
    # Decoding processes have tests of their own.
    monkeypatch.setattr(embedding, "looks", lambda tasks, side, _: (look(t, side) for t in tasks))
    build(source, tmp_path / "whole", **small)
    first = state(tmp_path / "whole")
    original = tmp_path / "original"
    shutil.copytree(source, original)
    change(source)
    build(source, tmp_path / "whole", **small)
    second = state(tmp_path / "whole")
    put = marks.put

    def stopping(after):
        left = [after]

        def stop(*given):
            left[0] -= 1
            if left[0] < 0:
                raise Stop
            return put(*given)

        return stop

    stops = 0
    for writes in range(2, 18, 3):
        out = tmp_path / str(writes)
        for pictures, expected in ((original, first), (source, second)):
            monkeypatch.setattr(marks, "put", stopping(writes))
            try:
                build(pictures, out, **small)
            except Stop:
                stops += 1
            monkeypatch.setattr(marks, "put", put)
            build(pictures, out, **small)
            assert state(out) == expected
    assert stops >= 8


def test_units_end_with_large_pictures_too(monkeypatch):
    monkeypatch.setattr(embedding, "UNIT_BYTES", 10)
    tasks = [Task(b"x" * size) for size in (1, 1, 1, 1, 9, 2, 20, 1)]
    cut = embedding.units(iter(tasks), 3)
    assert [[len(t.data) for t in unit] for unit in cut] == [[1, 1, 1], [1, 9, 2], [20], [1]]


def test_a_worker_gives_what_this_process_gives(source):
    tasks = [Task(path) for path in sorted(source.iterdir())]
    units = [tasks[first : first + 16] for first in range(0, 40, 16)]
    recipe, how = Together(4), How(16, 5)
    worker = embedding_on_ray.Worker(recipe, how)
    try:
        for number, expected in enumerate(here(1)(recipe, how, iter(units))):
            seen, made = worker.embed(number, units[number])
            assert (seen, made.looks) == (number, expected.looks)
            assert len(made.features) == sum(not look.reason for look in made.looks)
            assert made.features.tobytes() == expected.features.tobytes()
        assert number == 2
    finally:
        worker.decoders.close()


def test_a_picture_that_only_a_worker_cannot_open_is_no_unreadable_one(source):
    unit = [Task(source / "00.png"), Task(source / "gone.png"), Task("no bytes")]
    lost = [Look("", 0, None, "cannot be opened (no such file or directory)")] * 3
    made = embedded(Together(4), 2, lost)
    embedding_on_ray._check(unit[1:], made._replace(looks=lost[1:]))
    with pytest.raises(BadData, match=r"00\.png cannot be opened .* under the same path"):
        embedding_on_ray._check(unit, made)


def test_a_batch_does_not_outgrow_a_unit(source, tmp_path):
    with pytest.raises(ValueError, match="batch at most 256"):
        build(source, tmp_path / "index", batch=257)


@pytest.mark.slow  # starts Ray
@on_ray
def test_one_and_two_ray_workers_give_the_bytes_of_one_process(source, tmp_path, small):
    import ray

    ray.cloudpickle.register_pickle_by_value(toy_index)
    archive = tmp_path / "archive.tar"
    with tarfile.open(archive, "w") as tar:
        for path in sorted(source.iterdir()):
            tar.add(path, path.name)
    ray.init(num_cpus=2, log_to_driver=False, configure_logging=False, include_dashboard=False)
    try:
        for pictures in (source, archive):
            alone = tmp_path / f"{pictures.name}-alone"
            build(pictures, alone, **small)
            for workers in (1, 2):
                out = tmp_path / f"{pictures.name}-{workers}"
                built = build_on_ray(pictures, out, workers, **small)
                assert (built.images, sum(built.unreadable.values())) == (40, 3)
                assert state(out) == state(alone)
        change(source)
        alone, out = tmp_path / "source-alone", tmp_path / "source-2"
        counts = build(source, alone, **small)
        assert build_on_ray(source, out, **small) == counts
        assert state(out) == state(alone)
    finally:
        ray.shutdown()


@pytest.mark.slow  # starts Ray
@on_ray
def test_units_are_taken_as_a_worker_becomes_free(source):
    taken, tasks = [], [Task(path) for path in sorted(source.iterdir())]

    def units():
        for task in tasks:
            taken.append(task)
            yield [task]

    engine = embedding_on_ray.on_ray(1)(toy_index.Pixels(4), How(16, 5), units())
    for done in range(1, 6):
        next(engine)
        assert len(taken) == done + 1  # and one for the worker that became free
    engine.close()


@pytest.mark.slow  # half a dozen builds, each starts Ray in a process of its own
@on_ray
def test_killed_on_ray_or_alone_and_finished_by_the_other(source, tmp_path, monkeypatch):
    for number in range(60, 400):
        (source / f"0{number}.png").write_bytes(drawn(number))
    alone = tmp_path / "alone"
    build(source, alone)
    whole, marked = state(alone), len(list(alone.glob("shards/*.json")))
    spread = Mortal(monkeypatch, partial(build_on_ray, str(source)), "reference.toy_index")
    single = Mortal(monkeypatch, partial(build, str(source)), "reference.toy_index")
    assert [state(out) == whole for out in spread.undisturbed(tmp_path / "ray")] == [True, True]

    def begun(out):
        return any(out.glob("shards/*.json"))

    for first, then in ((spread, single), (spread, spread), (single, spread)):
        out = tmp_path / f"{first is spread}-{then is spread}"
        first.killed_when(out, begun)
        assert len(list(out.glob("shards/*.json"))) < marked
        assert then.finishes(out)
        assert state(out) == whole
    # And wherever it happens to be, before the first shard as well.
    for number in range(2):
        out = tmp_path / f"anywhere-{number}"
        spread.finishes(out, spread.moments.uniform(0.3, 0.9))
        build(source, out)
        assert state(out) == whole
