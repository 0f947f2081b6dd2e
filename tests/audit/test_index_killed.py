"""Killed with SIGKILL at random moments, an index ends with the bytes of one that was not."""

import contextlib
import functools

import numpy as np
import pytest
from PIL import Image
from reference import toy_index
from reference.killed import Mortal

from sidestep.audit.index import open_index
from sidestep.errors import BadRecords

pytest.importorskip("pyarrow")


def state(out):
    # A kill may leave a temporary file at the top, which nothing reads.
    files = [p for p in out.rglob("*") if p.is_file() and p.name != "lock" and p.suffix != ".tmp"]
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in files}


@pytest.mark.slow  # 24 builds, each a process with a decoder of its own
def test_killed_at_random_moments(tmp_path, monkeypatch):
    source = tmp_path / "source"
    source.mkdir()
    chance = np.random.default_rng(0)
    for number in range(150):
        pixels = chance.integers(0, 256, (300, 300, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(source / f"{number:03}.png", compress_level=1)
    (source / "077.png").write_bytes(b"")
    build = Mortal(
        monkeypatch, functools.partial(toy_index.build, str(source)), "reference.toy_index"
    )
    whole, again = map(state, build.undisturbed(tmp_path))
    assert whole == again
    halves = 0
    for out, done in build.killed(tmp_path, 0.2, 1, kills=20):
        if done:
            assert state(out) == whole
            continue
        halves += 0 < len(list((out / "shards").glob("*.json"))) < 30
        with contextlib.suppress(BadRecords):
            assert len(open_index(out).ids) == 149  # whole or refused
    assert halves >= 5  # kills in the middle of the work, not only before or after it
    toy_index.build(source, out)
    assert state(out) == whole
