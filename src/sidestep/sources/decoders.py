"""Decoding of foreign pictures in processes of their own, with limits on memory and time.

A picture that kills its decoder costs that decoder and nothing else. Decoders work ahead of
whoever takes the pictures, within a window, so that decoding and embedding keep the cores busy
together.
"""

import hashlib
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import lru_cache
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sidestep.sources.pictures import Refused, content, decode
from sidestep.sources.windows import Window

MEMORY = 4 * 2**30  # bytes of address space of a decoder
SECONDS = 60  # for one picture
CHUNK = 16  # pictures sent to a decoder at a time
CHUNK_BYTES = 16 * 2**20  # a chunk ends with the picture that passes this
DIED = f"decoding it took more than {SECONDS} s or {MEMORY >> 30} GiB, or crashed the decoder"


class Task(NamedTuple):
    """A picture to look at."""

    data: Path | bytes | str  # a string is the reason why there are no bytes
    known: str = ""  # SHA-256 of bytes that need no decoding
    window: Window | None = None  # the part of the framed square that counts


class Look(NamedTuple):
    """What a decoder saw."""

    sha256: str  # of the encoded bytes; empty where there are none
    size: int  # bytes
    pixels: NDArray[np.uint8] | None  # (w, w, 3) of the window; None if known or unreadable
    reason: str  # why it is unreadable, or empty


def look(task: Task, side: int) -> Look:
    """Hash a picture and decode it unless its bytes are known."""
    if isinstance(task.data, str):
        return Look("", 0, None, task.data)
    try:
        data = content(task.data) if isinstance(task.data, Path) else task.data
    except Refused as why:
        return Look("", 0, None, str(why))
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 == task.known:
        return Look(sha256, len(data), None, "")
    try:
        square = _decoded(data, side)
        pixels = task.window.cut(square) if task.window else square
        return Look(sha256, len(data), pixels, "")
    except Refused as why:
        return Look(sha256, len(data), None, str(why))


@lru_cache(maxsize=1)
def _decoded(data: bytes, side: int) -> NDArray[np.uint8]:
    # The windows of one picture come together.
    return decode(data, side)


class Decoders:
    """Decoding processes, kept from one collection of pictures to the next until closed."""

    def __init__(self, workers: int | None = None) -> None:
        """Start them as they are needed; ValueError for none.

        Args:
            workers: how many; None = one for each core that this process may use.
        """
        self.workers = workers if workers is not None else len(_cores())
        if self.workers < 1:
            raise ValueError(f"workers is {workers}; decoding takes at least 1 process")
        self._pool = _pool(self.workers)

    def looks(self, tasks: Iterator[Task], side: int) -> Iterator[Look]:
        """Look at pictures in their order, decoded to (side, side, 3).

        Tasks are taken as decoders become free. At most 2 `workers` + 2 chunks are in memory, each
        of at most 16 pictures.
        """
        pending = deque[tuple[list[Task], Future[list[Look]]]]()
        chunks = cut(tasks, CHUNK, CHUNK_BYTES)
        while True:
            while len(pending) < 2 * self.workers + 1 and (chunk := next(chunks, None)):
                pending.append((chunk, _submit(self._pool, chunk, side)))
            if not pending:
                return
            try:
                yield from pending[0][1].result()
                pending.popleft()
            except BrokenProcessPool:
                # A picture of one of the chunks under way broke it.
                self._pool.shutdown()
                while pending:
                    yield from _isolated(pending.popleft()[0], side)
                self._pool = _pool(self.workers)

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown(cancel_futures=True)


def looks(tasks: Iterator[Task], side: int, workers: int | None = None) -> Iterator[Look]:
    """Look at pictures with `Decoders` that end when it does."""
    decoders = Decoders(workers)
    try:
        yield from decoders.looks(tasks, side)
    finally:
        decoders.close()


def cut(tasks: Iterator[Task], most: int, size: int) -> Iterator[list[Task]]:
    """Runs of tasks: of `most`, or ending earlier with the picture that passes `size` bytes."""
    run, held = list[Task](), 0
    for task in tasks:
        run.append(task)
        held += len(task.data) if isinstance(task.data, bytes) else 0
        if len(run) == most or held > size:
            yield run
            run, held = [], 0
    if run:
        yield run


def _isolated(chunk: list[Task], side: int) -> Iterator[Look]:
    """Looks at a chunk in a decoder of its own, and where that dies at each picture in one."""
    with _pool(1) as pool:
        try:
            seen = _submit(pool, chunk, side).result()
        except BrokenProcessPool:
            if len(chunk) == 1:
                seen = [_unread(chunk[0])]
            else:
                seen = [one for task in chunk for one in _isolated([task], side)]
    yield from seen


def _unread(task: Task) -> Look:
    assert not isinstance(task.data, str)  # nothing to die of
    data = content(task.data) if isinstance(task.data, Path) else task.data
    return Look(hashlib.sha256(data).hexdigest(), len(data), None, DIED)


def _submit(pool: ProcessPoolExecutor, chunk: list[Task], side: int) -> "Future[list[Look]]":
    try:
        return pool.submit(_chunk, chunk, side, SECONDS)
    except BrokenProcessPool as error:
        broken = Future[list[Look]]()
        broken.set_exception(error)
        return broken


def _chunk(tasks: list[Task], side: int, seconds: int) -> list[Look]:
    seen = []
    for task in tasks:
        _alarm(seconds)
        seen.append(look(task, side))
        _alarm(0)
    return seen


class _Decoder(SpawnProcess):
    """A process that does not import the script that starts it, whose frameworks cost seconds."""

    def start(self) -> None:
        script = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")  # has no file that could be imported
        try:
            super().start()
        finally:
            sys.modules["__main__"] = script


class _Spawned(SpawnContext):
    Process = _Decoder


def _pool(workers: int) -> ProcessPoolExecutor:
    # Spawned, because a forked process would inherit locks of the threads that embed.
    return ProcessPoolExecutor(workers, mp_context=_Spawned(), initializer=_limit)


def _limit() -> None:
    """What a decoder may use. Windows has neither limit; there the caps on size are the guard."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C belongs to the process that collects
    threading.Thread(target=_follow, daemon=True).start()
    with suppress(ModuleNotFoundError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_AS)
        memory = MEMORY if most == resource.RLIM_INFINITY else min(MEMORY, most)
        # macOS has the limit by name only.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (memory, most))


def _follow() -> None:
    # Decoders hold each other's queues open, so they would outlive a killed parent forever.
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _alarm(seconds: int) -> None:
    # Without a handler it ends the process, in the middle of a decoder's C code too.
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _cores() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))
