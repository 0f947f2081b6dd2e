import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from reference import rules_loops
from scipy.signal import argrelextrema

from sidestep.guidance import Dynamic, Prediction
from sidestep.sampling import NoiseSchedule

PAPER = {"drop": 0.0, "earliest": 1.0, "latest": 0.0, "fallback": None}
TIMES = [level.time for level in NoiseSchedule.scaled_linear().grid(50)]


def follow(rule, times, gaps):
    """Scales (T, B), transition step and fallback mark of each sample, from gaps (T, B)."""
    state = rule.init(gaps.shape[1])
    scales, transition, fell_back = [], [-1] * gaps.shape[1], [False] * gaps.shape[1]
    for step, time in enumerate(times):
        cond = torch.zeros(gaps.shape[1], 4)
        cond[:, 0] = gaps[step]
        guided, state = rule.step(Prediction(torch.zeros_like(cond), cond, time), state)
        scales.append(guided.scale)
        for b in guided.on.nonzero()[:, 0].tolist():
            if transition[b] == -1:
                transition[b] = step
        fell_back = guided.fell_back.tolist()
    return torch.stack(scales), transition, fell_back


def test_the_transition_is_one_step_after_scipys_first_minimum():
    generator = np.random.default_rng(0)
    gaps = generator.random((50, 300)).astype(np.float32)
    # Half of the sequences are smooth, so that first minima come late and some never.
    gaps[:, 150:] = np.cumsum(gaps[:, 150:] - 0.9 * np.linspace(1, 0.2, 50)[:, None], axis=0) + 40
    _, transition, _ = follow(Dynamic(**PAPER), TIMES, torch.from_numpy(gaps))
    firsts = [argrelextrema(gaps[:, b], np.less)[0][:1].tolist() for b in range(300)]
    assert transition == [first[0] + 1 if first else -1 for first in firsts]
    assert transition == [
        -1 if step is None else step
        for step in (rules_loops.paper_transition(gaps[:, b].tolist()) for b in range(300))
    ]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.sampled_from([1.0, 0.0, -7.5]))
def test_the_papers_rule_decides_as_the_released_loop(gaps, before):
    expected, transition = rules_loops.released_dynamic(gaps, before, 7.5)
    rule = Dynamic(before=before, after=7.5, **PAPER)
    scales, found, _ = follow(rule, TIMES[: len(gaps)], torch.tensor(gaps)[:, None].float())
    assert scales[:, 0].tolist() == expected
    assert found == [-1 if transition is None else transition]


@st.composite
def runs(draw):
    """Times, gaps (T, B) of small whole numbers with many ties, and every option of the rule."""
    steps, batch = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    eighths = sorted(draw(st.lists(st.integers(0, 16), min_size=3, max_size=3)), reverse=True)
    earliest, second, third = (e / 16 for e in eighths)
    latest, fallback = draw(st.permutations([second, third]))
    times = sorted(draw(st.sets(st.integers(0, 32), min_size=steps, max_size=steps)), reverse=True)
    row = st.lists(st.integers(0, 8), min_size=batch, max_size=batch)
    gaps = draw(st.lists(row, min_size=steps, max_size=steps))
    options = {
        "before": draw(st.sampled_from([0.0, 1.0, -2.0])),
        "after": draw(st.sampled_from([7.5, 3.0])),
        # Whole gaps and these shares multiply without rounding, in float32 as in float64.
        "drop": draw(st.sampled_from([0.0, 0.25, 0.5])),
        "earliest": earliest,
        "latest": latest,
        "fallback": draw(st.sampled_from([None, fallback])),
    }
    return [t / 32 for t in times], gaps, options


@given(runs())
@example(([1.0, 0.9, 0.8], [[3], [1], [2]], {"before": 0.0, "after": 7.5, **PAPER}))
def test_every_option_decides_as_the_literal_loop(run):
    times, gaps, options = run
    scales, transition, fell_back = follow(Dynamic(**options), times, torch.tensor(gaps).float())
    for b in range(len(gaps[0])):
        expected = rules_loops.dynamic(times, [row[b] for row in gaps], **options)
        assert (scales[:, b].tolist(), transition[b], fell_back[b]) == expected


def one(rule, gaps, times=None):
    times = times or [1 - 0.1 * j for j in range(len(gaps))]
    scales, transition, fell_back = follow(rule, times, torch.tensor(gaps)[:, None].float())
    return scales[:, 0].tolist(), transition[0], fell_back[0]


def test_guidance_that_is_on_stays_on():
    scales, transition, _ = one(Dynamic(before=-2.0, **PAPER), [5, 4, 5, 3, 2, 1, 0, 9])
    assert transition == 2
    assert scales == [-2.0] * 2 + [7.5] * 6


def test_a_wiggle_on_the_plateau_does_not_count_and_a_later_dip_does():
    gaps = [10, 9.9, 10, 9.8, 6, 4, 5]
    assert one(Dynamic(**PAPER), gaps)[1] == 2
    assert one(Dynamic(**PAPER | {"drop": 0.3}), gaps)[1] == 6


def test_a_minimum_passed_too_early_opens_at_the_earliest_time():
    _, transition, fell_back = one(Dynamic(earliest=0.55, fallback=0.3), [5, 4, 5, 5, 5, 5, 5, 5])
    assert (transition, fell_back) == (5, False)  # times 1 .9 .8 .7 .6 .5


def test_a_minimum_passed_too_late_does_not_count():
    gaps = [9, 8, 7, 6, 5, 6, 6, 6, 6]
    assert one(Dynamic(**PAPER | {"latest": 0.55}), gaps)[1] == -1
    assert one(Dynamic(**PAPER | {"latest": 0.45}), gaps)[1] == 5


def test_the_fallback_opens_what_has_no_minimum_and_says_so():
    assert one(Dynamic(fallback=0.65), [9, 8, 7, 6, 5, 4])[1:] == (4, True)
    assert one(Dynamic(fallback=None), [9, 8, 7, 6, 5, 4])[1:] == (-1, False)


def test_a_minimum_at_the_fallback_step_is_the_signals_merit():
    assert one(Dynamic(fallback=0.65), [9, 8, 7, 6, 7])[1:] == (4, False)


def test_a_plateau_is_no_strict_minimum():
    assert one(Dynamic(**PAPER), [5, 4, 4, 5, 6])[1] == -1


def test_the_defaults_hold_back_until_earliest_and_open_everybody_at_fallback():
    noisy = torch.rand(50, 64, generator=torch.Generator().manual_seed(0))  # minima at once
    smooth = torch.linspace(9, 1, 50)[:, None]  # none at all
    _, transition, fell_back = follow(Dynamic(), TIMES, noisy)
    assert {TIMES[step] for step in transition} == {0.739} and not any(fell_back)
    _, transition, fell_back = follow(Dynamic(), TIMES, smooth)
    assert {TIMES[step] for step in transition} == {0.599} and all(fell_back)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"drop": 1.0}, "drop is 1.0; it is a share of the highest gap"),
        ({"drop": -0.1}, "drop is -0.1"),
        ({"earliest": 0.5, "fallback": 0.6}, "fallback must not be above earliest"),
        ({"earliest": 0.7, "latest": 0.8}, "latest must not be above earliest"),
        ({"before": float("nan")}, "before is nan"),
        ({"drop": float("nan")}, "drop is nan"),
    ],
)
def test_settings_that_cannot_be_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        Dynamic(**options)


def test_one_prediction_or_a_state_of_another_batch_is_refused():
    rule, x = Dynamic(), torch.zeros(2, 3)
    with pytest.raises(ValueError, match="needs cond and uncond at every step"):
        rule.step(Prediction(x, x, 0.9), rule.init(2))
    with pytest.raises(ValueError, match="state is for 3 samples and the prediction has 2"):
        rule.step(Prediction(x, x + 1, 0.9), rule.init(3))
