"""Groups are the connected components of the pairs, and the choice depends on bytes alone."""

import hashlib

import numpy as np
import pytest
from reference.toy_index import Rows

from sidestep.audit.groups import Group, choose, gather, labels
from sidestep.errors import BadData


def hashed(*names):
    return [hashlib.sha256(str(n).encode()).hexdigest() for n in names]


def walked(near):
    """Components of a graph, by walking through it from every picture."""
    found = set()
    for start in range(len(near)):
        seen, queue = {start}, [start]
        while queue:
            for other in np.flatnonzero(near[queue.pop()]):
                if other not in seen:
                    seen.add(int(other))
                    queue.append(int(other))
        found.add(frozenset(seen))
    return found


@pytest.mark.parametrize("size", [1, 13, 200])
def test_groups_are_components_of_near_duplicates_equal_bytes_and_blank_pictures(size):
    pytest.importorskip("faiss")
    chance = np.random.default_rng(0)
    rows = chance.standard_normal((90, 24))
    # A chain: neighbours are near, its ends are not.
    for step in range(1, 12):
        rows[step] = rows[step - 1] + 0.35 * chance.standard_normal(24)
    order = chance.permutation(90)
    rows = rows[order] / np.linalg.norm(rows[order], axis=1, keepdims=True)
    rows[[3, 40, 77]] = 0
    rows = rows.astype(np.float16)
    sha256 = hashed(*range(90))
    sha256[50], sha256[3] = sha256[10], sha256[60]
    wide = rows.astype(np.float64)
    near = (wide @ wide.T).astype(np.float32) >= np.float32(0.88)
    assert (near.sum(axis=1) > 2).any()  # a component is more than a picture and its neighbours
    for one, other in [(50, 10), (3, 60), (3, 40), (40, 77)]:
        near[one, other] = near[other, one] = True
    label = labels(Rows(rows, size), sha256, 0.88)
    groups = {frozenset(np.flatnonzero(label == n).tolist()) for n in set(label.tolist())}
    assert groups == walked(near)
    assert max(map(len, groups)) >= 6


def singles(count):
    return gather(hashed(*range(count)), np.arange(count)).values()


def test_the_share_is_met_exactly_by_single_pictures_in_any_order():
    groups = list(singles(200))
    chosen = choose(groups, 0.29)
    assert len(chosen) == 58  # 0.29 * 200 in floats lies just below 58
    assert choose(reversed(groups), 0.29) == chosen


def test_a_group_that_would_pass_the_share_is_passed_over():
    big = Group("0" * 64, tuple(hashed(*range(1000, 1060))))
    chosen = choose([big, *singles(40)], 0.1)
    assert big.key not in chosen and len(chosen) == 10


def test_large_groups_are_chosen_as_often_as_single_pictures():
    sizes = [1, 10] * 1000
    label = np.repeat(np.arange(len(sizes)), sizes)
    groups = gather(hashed(*range(len(label))), label)
    chosen = choose(groups.values(), 0.3)
    large = sum(groups[n].key in chosen for n in range(1, len(sizes), 2)) / 1000
    small = sum(groups[n].key in chosen for n in range(0, len(sizes), 2)) / 1000
    # Both are means of 1000 draws of 0.3, of standard deviation 0.0145: four of their difference.
    assert abs(large - small) < 4 * 0.0145 * 2**0.5 and abs(large - 0.3) < 0.06


def test_an_earlier_choice_is_kept_and_trained_groups_are_never_set_apart():
    first = hashed(*range(100))
    groups = gather(first, np.arange(100))
    chosen = choose(groups.values(), 0.2)
    earlier = {g.sha256[0]: "held-out" if g.key in chosen else "train" for g in groups.values()}
    held = [s for s, side in earlier.items() if side == "held-out"]
    trained = [s for s, side in earlier.items() if side == "train"]
    # 300 new pictures; one of them ties a picture that was held out to one that was trained on.
    sha256 = first + hashed(*range(100, 400))
    label = np.arange(400)
    label[first.index(held[0])] = label[first.index(trained[0])] = label[100]
    after = gather(sha256, label)
    now = choose(after.values(), 0.2, earlier)
    out = {s for g in after.values() if g.key in now for s in g.sha256}
    assert not out & set(trained)
    assert set(held) - out == {held[0]}
    assert len(out) == 80


@pytest.mark.parametrize(
    ("groups", "share", "earlier", "said"),
    [
        (singles(3), 0.1, {}, "0.1 of 3 pictures is 0"),
        (singles(1), 0.6, {}, "none trained on"),
        ([Group("0", tuple(hashed(*range(5))))], 0.5, {}, "is free has 5"),
        (singles(5), 0.5, dict.fromkeys(hashed(*range(5)), "train"), "no picture is free"),
        (singles(5), 0.5, dict.fromkeys(hashed(*range(5)), "held-out"), "none trained on"),
    ],
)
def test_an_empty_side_is_refused(groups, share, earlier, said):
    with pytest.raises(BadData, match=said):
        choose(groups, share, earlier)


@pytest.mark.parametrize("share", [0, 1, -0.1, float("nan")])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match="between 0 and 1"):
        choose(singles(5), share)
