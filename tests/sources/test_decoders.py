"""Decoders give what reading gives, in order, and a picture that kills one costs only itself."""

import hashlib
import multiprocessing
import os
import resource
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from sidestep.sources import decoders, pictures
from sidestep.sources.decoders import DIED, Task, looks

pytestmark = pytest.mark.slow  # every decoder is a new process


def saved(folder, count):
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
    return sorted(folder.glob("*.png"))


def test_looks_come_in_order_from_files_and_from_bytes(tmp_path):
    files = saved(tmp_path, 70)
    files[5].write_bytes(b"no picture")
    tasks = [Task(f if i % 2 else f.read_bytes()) for i, f in enumerate(files)]
    tasks[7] = tasks[7]._replace(known=hashlib.sha256(files[7].read_bytes()).hexdigest())
    tasks[9] = Task("there was none")
    seen = list(looks(iter(tasks), 16, workers=2))
    assert len(seen) == 70
    for number, (file, one) in enumerate(zip(files, seen, strict=True)):
        if number in (5, 7, 9):
            assert one.pixels is None
            continue
        assert one.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
        np.testing.assert_array_equal(one.pixels, pictures.read(file, 16))
    assert [seen[n].reason for n in (5, 7, 9)] == [
        "no JPEG, PNG or WEBP image", "", "there was none",
    ]  # fmt: skip


def test_decoders_do_not_run_far_ahead(tmp_path):
    (file,) = saved(tmp_path, 1)
    taken = []

    def tasks():
        for number in range(1000):
            taken.append(number)
            yield Task(file)

    stream = looks(tasks(), 16, workers=1)
    next(stream)
    assert len(taken) <= 4 * decoders.CHUNK
    stream.close()


def test_a_picture_that_stops_its_decoder_is_recorded_and_the_others_are_read(
    tmp_path, monkeypatch
):
    files = saved(tmp_path, 40)
    # Opening a pipe that nobody writes to never returns: the alarm ends that decoder.
    os.mkfifo(tmp_path / "stuck")
    tasks = [Task(file) for file in files]
    tasks[20] = Task(tmp_path / "stuck")
    monkeypatch.setattr(decoders, "SECONDS", 3)
    monkeypatch.setattr(decoders, "content", lambda path: b"what it would have read")
    seen = list(looks(iter(tasks), 16, workers=2))
    assert [i for i, one in enumerate(seen) if one.pixels is None] == [20]
    assert seen[20].reason == DIED
    assert seen[20].sha256 == hashlib.sha256(b"what it would have read").hexdigest()
    for file, one in zip(files, seen, strict=True):
        if one.pixels is not None:
            np.testing.assert_array_equal(one.pixels, pictures.read(file, 16))


def test_a_decoder_has_a_limit_on_memory():
    with decoders._pool(1) as pool:
        most, _ = pool.submit(resource.getrlimit, resource.RLIMIT_AS).result()
    assert most == decoders.MEMORY


SCRIPT = """
import sys
from pathlib import Path
print("imported", __name__)
from sidestep.sources.decoders import Task, _pool, looks

seen = list(looks(iter([Task(Path(sys.argv[1]))] * 3), 16, workers=1))
assert [one.pixels.shape for one in seen] == [(16, 16, 3)] * 3
with _pool(1) as pool:
    assert pool.submit(eval, "'torch' in __import__('sys').modules").result() is False
import __main__
assert __main__.__file__ == __file__
"""


def test_decoders_do_not_import_the_script_that_starts_them(tmp_path):
    (file,) = saved(tmp_path, 1)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)  # without `if __name__ == "__main__"`
    run = subprocess.run(
        [sys.executable, script, file],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (run.returncode, run.stdout) == (0, "imported __main__\n"), run.stderr


def _abandon(pipe):
    with decoders._pool(1) as pool:
        pipe.send(pool.submit(os.getpid).result())
        time.sleep(60)


def test_decoders_end_with_a_killed_parent():
    here, there = multiprocessing.Pipe()
    parent = multiprocessing.get_context("spawn").Process(target=_abandon, args=(there,))
    parent.start()
    decoder = here.recv()
    parent.kill()
    parent.join()
    for _ in range(200):
        try:
            os.kill(decoder, 0)
        except ProcessLookupError:
            return
        if "Z" in _state(decoder):
            return  # ended; its new parent has not looked yet
        time.sleep(0.05)
    pytest.fail("the decoder goes on without its parent")


def _state(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_no_worker_is_refused():
    with pytest.raises(ValueError, match="at least 1 process"):
        list(looks(iter(()), 16, workers=0))
