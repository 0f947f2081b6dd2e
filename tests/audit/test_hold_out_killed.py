"""Killed with SIGKILL at random moments, a split ends with the bytes of one that was not."""

import contextlib
import multiprocessing
import os
import random
import signal
import sys
import time

import numpy as np
import pytest
from PIL import Image
from reference import toy_hold_out

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
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["reference.toy_hold_out"])

    def start(out):
        process = context.Process(target=toy_hold_out.split, args=(str(source), str(out)))
        process.start()
        return process

    for out in ("first", "whole"):  # the server itself starts with the first
        began = time.monotonic()
        start(tmp_path / out).join()
        life = time.monotonic() - began
    whole = state(tmp_path / "whole")
    assert state(tmp_path / "first") == whole
    moments, kills, halves, finished = random.Random(0), 0, 0, 0
    out = tmp_path / "0"
    while kills < 12:
        process = start(out)
        process.join(moments.uniform(0.2, 1) * life)
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            kills += 1
            placed = len(list(out.glob("*/*.png")))
            halves += 0 < placed < 300
            with contextlib.suppress(BadRecords):
                assert open_hold_out(out).pictures == placed == 300  # whole or refused
            continue
        assert process.exitcode == 0
        assert state(out) == whole
        finished += 1
        out = tmp_path / str(finished)
    assert halves >= 1  # kills while pictures were placed
    toy_hold_out.split(source, out)
    assert state(out) == whole
    assert not list(out.glob("train/*.tmp")) + list(out.glob("held-out/*.tmp"))
