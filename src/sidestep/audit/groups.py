"""Groups of near-duplicates, and which of them are set apart.

A group is a connected component of the pairs: if A is near B and B near C, all three are together,
so that no near-duplicate of a picture lies in another group.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sidestep.audit.index import Index
from sidestep.audit.near_duplicates import Report, pairs
from sidestep.errors import BadData

Side = Literal["train", "held-out"]


class Group(NamedTuple):
    """Pictures that stay together."""

    key: str  # 64 hex digits of its content, in whose order groups are chosen
    sha256: tuple[str, ...]  # of each picture's bytes


def labels(
    index: Index,
    sha256: Sequence[str],
    similarity: float,
    report: Report = lambda task, done, total: None,
) -> NDArray[np.int64]:
    """The number of each picture's group, (N,), in the order of the rows.

    Together are near-duplicates as `near_duplicates.pairs` finds them, pictures of the same bytes,
    and all in which the recipe sees nothing to compare (rows of zeros), because it cannot tell
    those apart.

    Args:
        index: the pictures.
        sha256: of the bytes of each, in the order of the rows.
        similarity: from here on two pictures are near-duplicates.
        report: told how many shards have been compared with all others.
    """
    _, found = np.unique(np.array(sha256, dtype="U64"), return_inverse=True)
    group = found.astype(np.int64)
    blank = np.concatenate([~b.rows.any(axis=1) for b in index.rows()])
    if blank.any():
        group[np.isin(group, group[blank])] = group[blank][0]
    for pair in pairs(index, similarity, report):
        if len(pair.one):
            group = _joined(group, pair.one, pair.other)
    return group


def _joined(
    group: NDArray[np.int64], one: NDArray[np.int64], other: NDArray[np.int64]
) -> NDArray[np.int64]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(group)
    edges = coo_array(
        (np.ones(len(one), dtype=bool), (group[one], group[other])), shape=(count, count)
    )
    _, component = connected_components(edges, directed=False)
    joined: NDArray[np.int64] = component[group].astype(np.int64)
    return joined


def gather(sha256: Sequence[str], label: NDArray[np.int64]) -> dict[int, Group]:
    """The groups by their labels.

    The key hashes the smallest SHA-256 in a group. So it depends on bytes alone, is drawn alike for
    small and large groups, and stays when pictures are added, unless one of them is the smallest.
    """
    members: dict[int, list[str]] = {}
    for hashed, number in zip(sha256, label.tolist(), strict=True):
        members.setdefault(number, []).append(hashed)
    return {n: Group(_key(min(m)), tuple(m)) for n, m in members.items()}


def _key(smallest: str) -> str:
    return hashlib.sha256(f"hold-out\0{smallest}".encode()).hexdigest()


def choose(
    groups: Iterable[Group], share: float, earlier: Mapping[str, Side] | None = None
) -> set[str]:
    """The keys of the groups to set apart: of whole groups, close to a share of all pictures.

    Groups are taken in the order of their keys; one that would pass the share is passed over. So
    the share is met exactly as long as there are enough single pictures.

    Args:
        groups: all of them.
        share: of the pictures, in (0, 1).
        earlier: sides by SHA-256 that an earlier choice gave. They are kept: a group with a
            picture of `train` is not taken, because a model may have seen it; one with pictures of
            `held-out` and none of `train` is.

    Raises:
        ValueError: share is out of range.
        BadData: one side would be empty.
    """
    if not 0 < share < 1:
        raise ValueError(f"share is {share}; it must lie between 0 and 1")
    ordered, known = sorted(groups), earlier or {}
    total = sum(len(g.sha256) for g in ordered)
    most = round(share * total)
    taken, held, free = set[str](), 0, list[Group]()
    for group in ordered:
        sides = {known[s] for s in group.sha256 if s in known}
        if sides == {"held-out"}:
            taken.add(group.key)
            held += len(group.sha256)
        elif not sides:
            free.append(group)
    for group in free:
        if held + len(group.sha256) <= most:
            taken.add(group.key)
            held += len(group.sha256)
    if not held:
        smallest = min((len(g.sha256) for g in free), default=0)
        raise BadData(
            f"nothing can be set apart: {share:g} of {total} pictures is {most}, and "
            + (
                f"the smallest group of near-duplicates that is free has {smallest}; ask for a "
                "larger share, or for a higher similarity, which makes smaller groups"
                if smallest
                else "no picture is free; add some that were not in an earlier training set"
            )
        )
    if held == total:
        raise BadData(
            f"all {total} pictures would be set apart and none trained on; ask for a smaller share "
            "or give more pictures"
        )
    return taken
