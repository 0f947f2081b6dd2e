"""Killed with SIGKILL at random moments, an index ends with the bytes of one that was not."""

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
from reference import toy_index

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
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["reference.toy_index"])

    def start(out):
        process = context.Process(target=toy_index.build, args=(str(source), str(out)))
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
    while kills < 20:
        process = start(out)
        process.join(moments.uniform(0.2, 1) * life)
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            kills += 1
            halves += 0 < len(list((out / "shards").glob("*.json"))) < 30
            with contextlib.suppress(BadRecords):
                assert len(open_index(out).ids) == 149  # whole or refused
            continue
        assert process.exitcode == 0
        assert state(out) == whole
        finished += 1
        out = tmp_path / str(finished)
    assert halves >= 5  # kills in the middle of the work, not only before or after it
    toy_index.build(source, out)
    assert state(out) == whole
