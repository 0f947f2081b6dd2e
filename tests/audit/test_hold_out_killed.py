"""Killed with SIGKILL at random moments, a split ends with the bytes of one that was not."""

import contextlib
import functools

import numpy as np
import pytest
from PIL import Image
from reference import toy_hold_out
from reference.killed import Mortal

from sidestep.audit.hold_out import open_hold_out
from sidestep.errors import BadRecords

pytest.importorskip("pyarrow")
pytest.importorskip("faiss")


def state(out):
    # A kill may leave a temporary file at the top or in the index, which nothing reads.
    found = [p for p in out.rglob("*") if p.is_file() and p.name != "lock" and p.suffix != ".tmp"]
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in found}


@pytest.mark.slow  # a dozen splits, each a process with a decoder of its own
def test_killed_at_random_moments(tmp_path, monkeypatch):
    source = tmp_path / "source"
    source.mkdir()
    chance = np.random.default_rng(0)
    for number in range(300):
        pixels = chance.integers(0, 256, (60, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(source / f"{number:03}.png", compress_level=1)
        (source / f"{number:03}.txt").write_text(f"picture {number}")
    split = Mortal(
        monkeypatch, functools.partial(toy_hold_out.split, str(source)), "reference.toy_hold_out"
    )
    whole, again = map(state, split.undisturbed(tmp_path))
    assert whole == again
    halves = 0
    for out, done in split.killed(tmp_path, 0.2, 1, kills=12):
        if done:
            assert state(out) == whole
            continue
        placed = len(list(out.glob("*/*.png")))
        halves += 0 < placed < 300
        with contextlib.suppress(BadRecords):
            assert open_hold_out(out).pictures == placed == 300  # whole or refused
    assert halves >= 1  # kills while pictures were placed
    toy_hold_out.split(source, out)
    assert state(out) == whole
    assert not list(out.glob("train/*.tmp")) + list(out.glob("held-out/*.tmp"))
