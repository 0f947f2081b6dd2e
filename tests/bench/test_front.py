"""The Pareto front and the area beneath it against counting."""

import numpy as np
import pytest

from sidestep.bench.front import front, hypervolume


@pytest.mark.parametrize("seed", range(20))
def test_against_brute_force(seed):
    r = np.random.default_rng(seed)
    # Multiples of a tenth, so that there are ties and a grid of cells counts the area exactly.
    points = [(float(a), float(b)) for a, b in r.integers(0, 11, (r.integers(1, 12), 2)) / 10]
    beaten = [
        any(q[0] <= p[0] and q[1] >= p[1] and q != p for q in points) or p in points[:i]
        for i, p in enumerate(points)
    ]
    assert sorted(front(points)) == [i for i, b in enumerate(beaten) if not b]
    cells = [(x + 0.05, y + 0.05) for x in np.arange(10) / 10 for y in np.arange(10) / 10]
    covered = [any(p[0] <= x and p[1] >= y for p in points) for x, y in cells]
    assert hypervolume(points) == pytest.approx(sum(covered) / 100, abs=1e-12)


def test_ends():
    assert front([]) == []
    assert hypervolume([]) == 0
    assert hypervolume([(0.0, 1.0)]) == 1
    assert hypervolume([(1.0, 0.5), (0.5, 0.0)]) == 0
    assert front([(0.3, 0.9), (0.1, 0.5), (0.2, 0.4)]) == [1, 0]
