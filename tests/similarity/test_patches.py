"""The best pair of patches is that of every pair compared one by one, and it is where it lies."""

from itertools import product

import numpy as np
import pytest

from sidestep.similarity import patches
from sidestep.similarity.patches import agreement, concordance
from sidestep.similarity.structured import structure


def picture(seed, shape):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def slow(here, there, width, floor):
    """Every second patch against every place, by the definition."""
    best = (-2.0, None, None)
    for top, left in product(*(range(0, n - width + 1, 2) for n in there.shape[:2])):
        patch = there[top : top + width, left : left + width]
        if structure(patch[None])[0] < floor:
            continue
        b = patch.astype(float).reshape(-1, 3)
        for up, aside in product(*(range(n - width + 1) for n in here.shape[:2])):
            a = here[up : up + width, aside : aside + width].astype(float).reshape(-1, 3)
            spread = a.var(0).sum() + b.var(0).sum() + ((a.mean(0) - b.mean(0)) ** 2).sum()
            value = 1 - ((a - b) ** 2).sum(1).mean() / spread
            if value > best[0]:
                best = (value, (aside, up), (left, top))
    return best


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("pairs", [1, 200, 2**22])
def test_it_is_every_pair_of_patches_compared(seed, pairs, monkeypatch):
    monkeypatch.setattr(patches, "PAIRS", pairs)
    here, there = picture(seed, (11, 13)), picture(100 + seed, (10, 15))
    floor = float(np.median([structure(there[None, :5, n : n + 5])[0] for n in range(10)]))
    value, at, of = slow(here, there, 5, floor)
    found = agreement(here, there, 5, floor)
    assert (found.here, found.there) == (at, of)
    assert found.similarity == pytest.approx(value, abs=1e-12)  # both in float64


def test_contrast_and_colour_count_against_it():
    a = picture(0, (8, 8))
    assert concordance(a, a) == 1
    # Half the contrast about 0: 2 k v / (v + k^2 v + (1 - k)^2 m^2) with k = 1/2.
    even = a // 2 * 2
    v, m = even.astype(float).var((0, 1)).sum(), (even.astype(float).mean((0, 1)) ** 2).sum()
    assert concordance(even, even // 2) == pytest.approx(v / (1.25 * v + m / 4), abs=1e-12)
    low = a // 2
    spread = low.astype(float).var((0, 1)).sum()
    shifted = concordance(low, low + np.uint8(20))
    assert shifted == pytest.approx(2 * spread / (2 * spread + 3 * 400), abs=1e-12)
    assert concordance(255 - a, a) < -0.9
    flat = np.full((8, 8, 3), 7, np.uint8)
    assert concordance(flat, flat) == concordance(flat, a) == 0


def test_a_pasted_patch_is_found_to_the_pixel():
    here, there = picture(1, (30, 30)), picture(2, (30, 30))
    here[7:17, 12:22] = there[4:14, 6:16]
    assert agreement(here, there, 10, 16) == (1.0, (12, 7), (6, 4))


def test_patches_without_structure_agree_with_nothing():
    flat = np.full((20, 20, 3), 90, np.uint8)
    edge = flat.copy()
    edge[:, 9:] = 200
    assert agreement(flat, flat, 8, 16) is None
    assert agreement(edge, edge, 8, 16) is None
    # With no floor they would; a flat pair alone has nothing to agree on.
    assert agreement(edge, edge, 8, 0).similarity == pytest.approx(1, abs=1e-12)
    assert agreement(flat, flat, 8, 0).similarity == 0


def test_what_holds_no_patch_has_none():
    assert agreement(picture(0, (9, 30)), picture(1, (30, 30)), 10, 0) is None
    assert agreement(picture(0, (30, 30)), picture(1, (30, 9)), 10, 0) is None
    with pytest.raises(ValueError, match="width is 1"):
        agreement(picture(0, (9, 9)), picture(1, (9, 9)), 1, 0)
