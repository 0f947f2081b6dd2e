"""Which methods no other beats, and how much of the plane each one's strengths cover.

A point is (copies, agreement), both in [0, 1]: fewer copies and more agreement are better.
"""

from collections.abc import Sequence

Point = tuple[float, float]  # copies, agreement


def front(points: Sequence[Point]) -> list[int]:
    """Indices of the points that no other beats, by copies rising: the Pareto front.

    A point beats another if it is no worse in both and better in one. Of equal points the first
    counts.
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1], i))
    result: list[int] = []
    for i in order:
        if not result or points[i][1] > points[result[-1]][1]:
            result.append(i)
    return result


def hypervolume(points: Sequence[Point], worst: Point = (1.0, 0.0)) -> float:
    """The area of what the points beat, between them and the `worst` point; in [0, 1].

    1 = a point without copies and with full agreement, 0 = no point is better than the worst.

    Source: Zitzler and Thiele, IEEE Transactions on Evolutionary Computation, 1999.
    """
    better = [p for p in points if p[0] < worst[0] and p[1] > worst[1]]
    area, height = 0.0, worst[1]
    for i in front(better):
        copies, agreement = better[i]
        area += (worst[0] - copies) * (agreement - height)
        height = agreement
    return area
