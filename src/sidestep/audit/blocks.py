"""Rows of an index in blocks of the size that computes fastest, read ahead in a thread."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from sidestep.audit.products import Rounded
from sidestep.audit.shards import Features

BYTES = 2**24  # of a block in float32; from twice that on, memory is fetched anew each time
Item = TypeVar("Item")


class Block(NamedTuple):
    """Some rows of an index."""

    first: int  # number of its first row
    rows: Features  # (n, D)


class Ready(NamedTuple):
    """A block whose rows have been rounded too."""

    first: int
    rows: Features
    rounded: Rounded


def ready(blocks: Iterable[Block], kind: torch.dtype) -> Iterator[Ready]:
    """The rows of blocks, put together or cut to even blocks; the next is read meanwhile.

    In memory are two of these blocks and one of those that came.
    """
    return ahead(Ready(*b, Rounded.of(b.rows, kind)) for b in even(blocks))


def even(blocks: Iterable[Block]) -> Iterator[Block]:
    """The same rows in blocks of BYTES; the last one may be smaller. Rows follow on each other."""
    waiting, first, count = list[Features](), 0, 0
    for block in blocks:
        most = max(1, BYTES // (4 * block.rows.shape[1]))
        rows = block.rows
        if not waiting:
            first = block.first
        while count + len(rows) >= most:
            waiting.append(rows[: most - count])
            yield Block(first, _together(waiting))
            rows = rows[most - count :]
            first, waiting, count = first + most, [], 0
        if len(rows):
            waiting.append(rows)
            count += len(rows)
    if waiting:
        yield Block(first, _together(waiting))


def _together(parts: list[Features]) -> Features:
    return np.ascontiguousarray(parts[0]) if len(parts) == 1 else np.concatenate(parts)


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The same items, each made in a thread while the one before is used."""
    source, end = iter(items), object()
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(next, source, end)
        while (item := waiting.result()) is not end:
            waiting = thread.submit(next, source, end)
            yield item  # type: ignore[misc]  # what is not the end is an item
