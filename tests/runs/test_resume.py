"""Killed anywhere, on a full disk, in parts or in parallel: the same records as in one go."""

import contextlib
import errno
import functools
import itertools
import json
import os
import shutil
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image
from reference import toy_run
from reference.killed import Mortal

from sidestep import files
from sidestep.runs import run as runner
from sidestep.runs.records import read, unmeasured
from sidestep.runs.run import OtherRun
from sidestep.runs.units import Shard, units
from sidestep.sampling.trace import Trace


def result(out):
    """All that a run leaves but what a machine measures: records, pictures, traces."""
    rows = [unmeasured(r) for r in read(out / "records.jsonl")]
    # A kill may leave a temporary file, which nothing reads.
    files = [*sorted(out.glob("images/**/*.png")), *sorted(out.glob("traces/*.safetensors"))]
    return rows, {f.relative_to(out): f.read_bytes() for f in files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed run."""
    out = tmp_path_factory.mktemp("whole")
    assert [r.rule for r in toy_run.fill(out)[::72]] == [m.label for m in toy_run.METHODS]
    return result(out)


def test_killed_at_random_points_it_ends_with_the_same_records(tmp_path, whole, monkeypatch):
    run = Mortal(monkeypatch, toy_run.fill, "reference.toy_run", "sidestep.runs.scored")
    for out in run.undisturbed(tmp_path):
        assert result(out) == whole
    for out, done in run.killed(tmp_path, 0, 0.7, kills=24, ends=1):
        if done:
            assert result(out) == whole
        elif (out / "records.jsonl").exists():
            read(out / "records.jsonl")  # whole at any time
    toy_run.fill(out)
    assert result(out) == whole


class Stop(BaseException):
    """The process is gone."""


def test_stopped_before_any_two_writes_it_ends_with_the_same_records(tmp_path, monkeypatch):
    rename, room = os.replace, []

    def replace(*paths):
        if room:
            room[0] -= 1
            if room[0] < 0:
                raise Stop
        rename(*paths)

    monkeypatch.setattr(files.os, "replace", replace)
    run = functools.partial(
        runner.fill, model=toy_run.Toy(), jobs=toy_run.JOBS[:2], methods=toy_run.METHODS[:1],
        score=toy_run.score, steps=2,
    )  # fmt: skip
    run(tmp_path / "whole")
    ends = 0
    # A run writes 10 files.
    for stops in itertools.product(range(11), repeat=2):
        out = tmp_path / "-".join(map(str, stops))
        for stop in stops:
            room[:] = [stop]
            with contextlib.suppress(Stop):
                run(out)
                ends += 1
        room.clear()
        run(out)
        assert result(out) == result(tmp_path / "whole")
    assert 0 < ends < 121


def test_a_disk_that_fills_up_anywhere_loses_one_unit_at_most(tmp_path, whole, monkeypatch):
    flush, room = os.fsync, 0

    def fsync(file):
        nonlocal room
        room -= 1
        if room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(file)

    monkeypatch.setattr(files.os, "fsync", fsync)
    for stops in range(20):
        room = 41  # files; more than a unit leaves, so that each try gets further
        try:
            toy_run.fill(tmp_path)
            break
        except OSError as error:
            assert error.errno == errno.ENOSPC
        assert not list(tmp_path.rglob("*.tmp"))
        assert len(list(tmp_path.glob("units/*.safetensors"))) > stops
    assert stops > 5
    assert result(tmp_path) == whole


@pytest.mark.parametrize("damage", ["cut", "gone", "other"])
@pytest.mark.parametrize("which", ["images/dynamic/0040.png", "units/*.safetensors", "traces/*"])
def test_a_damaged_file_is_made_again(tmp_path, whole, which, damage):
    toy_run.fill(tmp_path)
    file = sorted(tmp_path.glob(which))[0]
    data = file.read_bytes()
    file.write_bytes({"cut": data[:-1], "other": data[:-1] + b"?", "gone": b""}[damage])
    if damage == "gone":
        file.unlink()
    toy_run.fill(tmp_path)
    assert result(tmp_path) == whole


@pytest.mark.parametrize("batch", [1, 5, 32])
def test_the_batch_size_changes_no_record(tmp_path, whole, batch):
    toy_run.fill(tmp_path, batch=batch)
    assert result(tmp_path) == whole


def test_shards_in_one_folder_end_with_the_same_records(tmp_path, whole):
    for part in (2, 0):
        assert len(toy_run.fill(tmp_path, shard=Shard(part, 3))) < len(whole[0])
    assert len(toy_run.fill(tmp_path, shard=Shard(1, 3))) == len(whole[0])
    assert result(tmp_path) == whole


def test_folders_of_shards_copied_together_are_the_whole_run(tmp_path, whole):
    for part in range(3):
        toy_run.fill(tmp_path / str(part), shard=Shard(part, 3))
        shutil.copytree(tmp_path / str(part), tmp_path / "all", dirs_exist_ok=True)

    class Untouched(toy_run.Toy):
        def denoiser(self, prompts):
            raise AssertionError("every unit is there")

    toy_run.fill(tmp_path / "all", model=Untouched())
    assert result(tmp_path / "all") == whole


def test_shards_split_the_units_of_a_run():
    every = units(toy_run.JOBS, toy_run.METHODS, {})
    parts = [Shard(i, 5).take(every) for i in range(5)]
    assert [len(p) for p in parts] == [3, 3, 2, 2, 2]
    assert sorted(u.number for p in parts for u in p) == list(range(12))
    assert Shard.parse("2/3") == Shard(2, 3)
    for wrong in ("3/3", "0/0", "1", "-1/3", "a/b", "1/2/3"):
        with pytest.raises(ValueError, match="is no shard; write i/N"):
            Shard.parse(wrong)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 4}, "seed 3 there, 4 here"),
        ({"steps": 6}, "steps 5 there, 6 here"),
        ({"finer": 9}, "finer null there, 9 here"),
    ],
)
def test_a_run_of_other_settings_is_refused_and_nothing_is_lost(tmp_path, whole, change, words):
    toy_run.fill(tmp_path)
    with pytest.raises(OtherRun, match=f"holds another run \\({words}\\).*Give another folder"):
        toy_run.fill(tmp_path, **change)
    assert result(tmp_path) == whole


def test_another_model_or_version_is_refused(tmp_path, monkeypatch):
    toy_run.fill(tmp_path)
    file = tmp_path / "run.json"
    header = json.loads(file.read_text())
    for change, words in (
        ({"model": {"name": "other"}}, 'model: name "other" there, "toy" here'),
        ({"versions": {**header["versions"], "torch": "0.1"}}, "versions: torch"),
        ({"scenario": {"name": "s1"}}, 'scenario {"name": "s1"} there, null here'),
    ):
        file.write_text(json.dumps({**header, **change}))
        with pytest.raises(OtherRun, match=words):
            toy_run.fill(tmp_path)
    # Python's version changes no picture, nor does when and how the run was started.
    versions = {**header["versions"], "python": "3.99"}
    file.write_text(json.dumps({**header, "versions": versions, "created": "", "batch": 7}))
    assert len(toy_run.fill(tmp_path)) == 4 * 72


def test_a_folder_that_another_run_took_meanwhile_is_refused(tmp_path):
    def engine(model, out, units, settings, watch):
        toy_run.fill(out, seed=9)
        yield from ()
        yield units[0]

    with pytest.raises(OtherRun, match="seed 9 there, 3 here"):
        toy_run.fill(tmp_path, engine=engine)


def test_traces_and_distances_belong_to_their_pictures(tmp_path):
    rows = toy_run.fill(tmp_path)
    shown = [np.asarray(Image.open(tmp_path / r.image)).astype(float) / 255 for r in rows]
    assert {r.change for r in rows[:72]} == {0}
    for i, row in enumerate(rows):
        squares = [(a - b) ** 2 for a, b in zip(shown[i].flat, shown[i % 72].flat, strict=True)]
        assert row.change == pytest.approx((sum(squares) / len(squares)) ** 0.5, abs=1e-12)
    assert max(r.change for r in rows) > 0.1
    trace = Trace.load(tmp_path / "traces/static-0-7.safetensors")
    assert trace.transition.tolist() == [r.transition for r in rows[72:144]]
    assert trace.nfe.tolist() == [r.nfe for r in rows[72:144]]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install ray")
def test_two_ray_workers_give_the_same_records_as_one_process(tmp_path, whole):
    import ray

    from sidestep.runs.on_ray import on_ray

    # The workers do not see the folder of the tests.
    ray.cloudpickle.register_pickle_by_value(toy_run)
    toy_run.fill(tmp_path / "run", engine=on_ray(2))
    assert result(tmp_path / "run") == whole
    assert not ray.is_initialized()

    class Dies(toy_run.Toy):
        def decode(self, latents):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        toy_run.fill(tmp_path / "full", model=Dies(), engine=on_ray(2))
