"""The papers' aggregates against literal loops, and the spread of the draws of a prompt."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import aggregates_loops as loops

from sidestep.similarity import aggregates
from sidestep.similarity.aggregates import by_kind, over_references, spread
from sidestep.similarity.search import nearest

CLOSE = {"rel": 1e-12, "abs": 1e-12}  # both sum in float64, in another order


def tables(r, prompts=9, seeds=(3, 8)):
    """Prompts with their own numbers of seeds and of references; values tie now and then."""
    return [
        r.integers(-20, 100, (r.integers(*seeds), r.integers(1, 4))) / 100 for _ in range(prompts)
    ]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_each_aggregate_is_its_papers_loop(seed):
    table = tables(np.random.default_rng(seed))
    plain = [t.tolist() for t in table]
    rows = [over_references(t) for t in table]
    assert [r.tolist() for r in rows] == [loops.closest(t) for t in plain]
    assert aggregates.wen(rows) == pytest.approx(loops.wen(plain), **CLOSE)
    assert aggregates.nemo(rows) == pytest.approx(loops.nemo(plain), **CLOSE)
    assert aggregates.membench(rows) == pytest.approx(loops.membench(plain, 0.5), **CLOSE)
    top = np.concatenate(rows)
    assert aggregates.amg(top) == pytest.approx(loops.amg(top.tolist()), **CLOSE)


def unit(r, n, width=24):
    rows = r.normal(size=(n, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_dcr_takes_the_nearest_of_the_whole_training_set():
    r = np.random.default_rng(0)
    generated, training = unit(r, 50), unit(r, 30)
    top = nearest(generated, training)[0][:, 0]
    expected = loops.dcr(generated.tolist(), training.tolist(), 0.5)
    assert aggregates.dcr(top) == pytest.approx(expected, abs=1e-6)  # `nearest` rounds to float32
    assert 0 < expected[2] < 1


def test_the_background_leaves_the_picture_itself_out_but_not_its_twin():
    r = np.random.default_rng(1)
    training = unit(r, 40)
    training = np.concatenate([training, training[:3]])
    for p, found in aggregates.background(training, (10, 50, 95)).items():
        assert found == pytest.approx(loops.background(training.tolist(), p), abs=1e-6)  # float32
    # Six of 43 have a twin, so the highest seventh is 1.
    assert aggregates.background(training, (95,))[95] == pytest.approx(1, abs=1e-6)


def test_the_aggregates_of_one_table_differ():
    rows = [over_references(t) for t in tables(np.random.default_rng(2), seeds=(4, 5))]
    top = np.concatenate(rows)
    found = [
        aggregates.wen(rows),
        aggregates.nemo(rows).median,
        *aggregates.membench(rows),
        aggregates.dcr(top).p95,
        aggregates.amg(top).top5,
    ]
    assert len({round(f, 6) for f in found}) == len(found)


def test_a_prompt_weighs_one_whatever_its_seeds_and_a_rate_says_its_unit():
    prompts = [[0.9, 0.9, 0.9, 0.9], [0.1]]
    assert aggregates.wen(prompts) == pytest.approx(0.5)
    assert aggregates.images_above(prompts, 0.5) == 0.8
    assert aggregates.prompts_above(prompts, 0.5) == 0.5
    # A value at the cut is not above it.
    assert aggregates.images_above(prompts, 0.9) == aggregates.prompts_above(prompts, 0.9) == 0


def test_five_percent_is_at_least_one_image():
    assert aggregates.amg([0.3, 0.8]) == (0.8, 0.8)
    assert aggregates.amg(np.arange(40) / 40).top5 == pytest.approx((39 + 38) / 80)


def test_verbatim_and_template_are_told_apart():
    found = by_kind([1, 2, 3, 4, 5], ["MV", "TV", "RV", "N", "TV"])
    assert found == {"verbatim": [1, 3], "template": [2, 5]}
    with pytest.raises(ValueError, match="unknown marks XY"):
        by_kind([1], ["XY"])
    with pytest.raises(ValueError, match="one for each"):
        by_kind([1, 2], ["N"])


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: over_references([0.1, 0.2]), r"\(M, R\)"),
        (lambda: over_references(np.empty((2, 0))), r"\(M, R\)"),
        (lambda: aggregates.wen([]), "no prompt"),
        (lambda: aggregates.wen([[0.1], []]), "at least one"),
        (lambda: aggregates.nemo([[0.1, np.nan]]), "finite"),
        (lambda: aggregates.dcr([[0.1]]), "over_references first"),
        (lambda: aggregates.membench([[0.1, 0.2]]), "needs three"),
        (lambda: aggregates.background(np.ones((1, 4), np.float32)), "two or more"),
    ],
)
def test_what_has_no_aggregate_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_spread_is_the_mean_over_the_other_draws():
    rows = np.random.default_rng(0).normal(size=(5, 8))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    expected = [
        sum(1 - float(rows[i].astype(float) @ rows[j]) for j in range(5) if j != i) / 4
        for i in range(5)
    ]
    assert spread(rows) == pytest.approx(expected, abs=1e-12)  # both sum in float64


def test_equal_draws_have_none_and_opposite_draws_have_two():
    unit = np.eye(3, dtype=np.float32)[:1]
    assert spread(np.repeat(unit, 4, 0)).tolist() == [0, 0, 0, 0]
    assert spread(np.concatenate([unit, -unit])).tolist() == [2, 2]


def test_a_single_draw_has_no_spread():
    assert np.isnan(spread(np.ones((1, 4), dtype=np.float32))).tolist() == [True]
    assert spread(np.ones((0, 4), dtype=np.float32)).shape == (0,)


def test_rows_are_expected():
    with pytest.raises(ValueError, match="rows"):
        spread(np.ones(4, dtype=np.float32))
