import re
import statistics

import matplotlib as mpl
import numpy as np
import pytest

from sidestep.web import charts
from sidestep.web.charts import Curves, axis_top, curves, gap_chart, scatter
from sidestep.web.drawing import Point
from sidestep.web.run import load


def some_curves(samples: int, steps: int = 12) -> Curves:
    r = np.random.default_rng(1)
    gap = r.uniform(1, 5, (steps, samples))
    gap[:3, ::2] = np.nan
    transition = r.integers(-1, steps, samples)
    return Curves(np.linspace(1, 0, steps), gap, transition, r.random(samples) < 0.5)


def test_curves_split_the_columns_by_kind(folder):
    run = load(folder.path)
    trace, records = run.traces["plain"], run.records["plain"]
    split = curves(trace, records)
    assert list(split) == ["target", "ordinary"]
    for kind, one in split.items():
        columns = [i for i, r in enumerate(records) if r.kind == kind]
        for place, column in enumerate(columns):
            assert one.gap[:, place].tolist() == trace.gap[:, column].tolist()
            assert one.transition[place] == trace.transition[column]


def test_the_median_is_that_of_the_measured_samples():
    one = some_curves(7)
    for step, row in enumerate(one.gap):
        measured = [v for v in row.tolist() if v == v]
        # The same doubles sorted; the mean of two may round once.
        assert one.median[step] == pytest.approx(statistics.median(measured), rel=1e-15)
    assert np.isnan(Curves(one.time, one.gap * np.nan, one.transition, one.fell_back).median).all()


def test_shown_samples_are_spread_over_all():
    one = some_curves(100)
    shown = one.some(10)
    assert len(shown) == 10
    assert (shown[0], shown[-1]) == (0, 99)
    # 99 / 9 = 11 apart, one more or less by rounding.
    assert set(np.diff(shown)) <= {10, 11, 12}
    assert one.some(1000).tolist() == list(range(100))


def test_the_axis_holds_the_medians_and_all_but_the_highest_gaps():
    one = some_curves(50)
    one.gap[4, 7] = 1000.0
    top = axis_top([one], 50)
    measured = one.gap[np.isfinite(one.gap)]
    assert np.nanmax(one.median) < top < 1000
    assert (measured > top).mean() <= 0.005
    spike = Curves(one.time, np.ones((12, 3)), one.transition[:3], one.fell_back[:3])
    spike.gap[5] = 50.0
    assert axis_top([one, spike], 50) > 50  # a median that rises is no outlier
    assert axis_top([], 50) == 1.0


def test_each_transition_is_marked_once_and_hollow_by_fallback():
    one = some_curves(9)
    svg = gap_chart({"target": one}, top=5, shown=100, name="a")
    marks = re.findall(r"<use [^>]*", svg)
    on = one.transition >= 0
    assert 0 < on.sum() < 9
    assert len(marks) == on.sum()
    hollow = sum("fill: var(--paper)" in m for m in marks)
    assert hollow == (on & one.fell_back).sum()


def test_kinds_differ_by_dash_and_mark_and_not_by_colour_alone():
    def drawn(kind: str) -> tuple[bool, str]:
        svg = gap_chart({kind: some_curves(4)}, top=5, shown=9, name="a")
        marker = re.search(r'<path id="[^"]*" d="([^"]*)"', svg)
        assert marker
        return "stroke-dasharray" in svg, marker[1]

    target, ordinary, other = (drawn(k) for k in ("target", "ordinary", "other"))
    assert (target[0], ordinary[0]) == (False, True)
    assert len({target[1], ordinary[1], other[1]}) == 3


def test_charts_are_the_same_text_each_time_and_leave_matplotlib_as_it_was():
    before = dict(mpl.rcParams)
    kinds = {"target": some_curves(3), "ordinary": some_curves(2)}
    assert gap_chart(kinds, top=5, shown=9, name="a") == gap_chart(kinds, top=5, shown=9, name="a")
    points = [Point("plain", 0.9, 0.8, 0.95, 0.7), Point("b", 0.1, 0.0, 0.2, 0.7)]
    one = scatter(points, ylabel="R@5", ceiling=0.9, name="s")
    assert one == scatter(points, ylabel="R@5", ceiling=0.9, name="s")
    assert dict(mpl.rcParams) == before
    assert not re.search(r"#0102\w\w|<metadata|<style|<!--", one)


def test_the_scatter_puts_points_where_their_numbers_are():
    points = [
        Point("a", 0.2, 0.1, 0.3, 0.6),
        Point("b", 0.4, 0.3, 0.5, 0.7),
        Point("c", 0.8, 0.7, 0.9, 0.9),
    ]
    svg = scatter(points, ylabel="R@5", ceiling=None, name="s")
    at = [(float(x), float(y)) for x, y in re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)"', svg)]
    (ax, ay), (bx, by), (cx, cy) = at
    # Linear axes: distances stand as the numbers do, to the six digits written.
    assert (cx - ax) / (bx - ax) == pytest.approx(0.6 / 0.2, rel=1e-4)
    assert (cy - ay) / (by - ay) == pytest.approx(0.3 / 0.1, rel=1e-4)
    assert ax < cx
    assert ay > cy  # SVG counts downwards


@pytest.mark.parametrize("count", [1, 2, 8])
def test_names_stand_apart_even_where_points_coincide(count):
    points = [Point(f"rule number {i}", 0.1, 0.05, 0.2, 0.8) for i in range(count)]
    svg = scatter(points, ylabel="R@5", ceiling=None, name="s")
    spots = re.findall(r'x="([\d.]+)" y="([\d.]+)"[^>]*>rule number', svg)
    assert len(set(spots)) == count


def test_labels_are_escaped():
    points = [Point('<script>"&', 0.1, 0.0, 0.2, 0.8)]
    svg = scatter(points, ylabel="R@5", ceiling=None, name='"><script>')
    assert "<script" not in svg
    assert 'aria-label="&quot;&gt;&lt;script&gt;"' in svg
    assert charts.gap_chart({}, top=1, shown=1, name="empty").startswith("<svg")
