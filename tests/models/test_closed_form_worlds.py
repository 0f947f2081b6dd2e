"""The paper's claims where basin and exit are exact, and the numbers of docs/closed-form.md."""

from functools import cache
from pathlib import Path

import pytest
import torch

from sidestep.guidance import Constant, Dynamic, Static
from sidestep.models.closed_form_data import (
    NEAR,
    emoji_points,
    generalizer_world,
    memorizer_world,
    spike_world,
)
from sidestep.rng import noise
from sidestep.sampling import DDIM, NoiseSchedule, sample

PAGE = Path(__file__).parents[2] / "docs" / "closed-form.md"

WORLDS = {
    "A memorizer": lambda: memorizer_world(points()),
    "A without exits": lambda: memorizer_world(points(), exits=False),
    "B spikes, 40 groups": lambda: spike_world(points()),
    "C colours, 40 groups": lambda: spike_world(points("random")),
    "D generalizer": lambda: generalizer_world(points()),
}
RULES = {
    "plain 7.5": Constant(7.5),
    "static, time 0.85, before 0": Static(0.85),
    "static, time 0.5, before 0": Static(0.5),
    "static, time 0.85, before -2": Static(0.85, before=-2.0),
    "static, time 0.5, before 1": Static(0.5, before=1.0),
    "dynamic to the letter, before 0": Dynamic(earliest=1, fallback=None),
    "dynamic, fallback 0.5, before 0": Dynamic(earliest=1, fallback=0.5),
    "dynamic, fallback 0.5, before -2": Dynamic(before=-2.0, earliest=1, fallback=0.5),
    "dynamic, defaults, before 0": Dynamic(),
}
SAMPLES = 80


@cache
def points(ground="white"):
    return emoji_points(ground=ground)


@cache
def world(name):
    return WORLDS[name]()


@cache
def run(name, rule):
    """Copies, on-prompt and the share that the rule's own signal opened; the page's settings."""
    first = noise(list(range(SAMPLES)), (3, 16, 16))
    schedule = NoiseSchedule.scaled_linear()
    made = sample(world(name).denoiser, first, RULES[rule], schedule, solver=DDIM(clip=4.0))
    opened = (made.trace.transition >= 0) & ~made.trace.fell_back
    return *world(name).shares(made.latents), float(opened.double().mean())


def slack(share):
    """Three binomial standard errors of a share of 80 samples, or of one sample in 80.

    The seeds are fixed, so on one machine the numbers are too; on another, rounding may tip a
    sample that starts on the edge of a basin.
    """
    return 3 * (max(share * (1 - share), 1 / SAMPLES) / SAMPLES) ** 0.5


def page_cell(name, rule):
    """The numbers of one cell of the page's table."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
    ]
    head = next(row for row in rows if row[0] == "rule")
    row = next(row for row in rows if row[0] == rule)
    text = row[head.index(name)].replace("%", "").replace("(", "/").replace(")", "")
    return [float(part) for part in text.split("/")]


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("A memorizer", "plain 7.5"),
        ("A memorizer", "static, time 0.5, before 0"),
        ("B spikes, 40 groups", "plain 7.5"),
        ("B spikes, 40 groups", "static, time 0.85, before 0"),
        ("B spikes, 40 groups", "static, time 0.5, before 1"),
        ("B spikes, 40 groups", "dynamic, fallback 0.5, before 0"),
        ("B spikes, 40 groups", "dynamic, defaults, before 0"),
        ("C colours, 40 groups", "plain 7.5"),
    ],
)
def test_the_page_shows_what_is_measured(name, rule):
    copies, on_prompt, opened = run(name, rule)
    want = page_cell(name, rule)
    assert copies == pytest.approx(want[0], abs=slack(want[0]))
    assert on_prompt == pytest.approx(want[1], abs=slack(want[1]))
    if len(want) == 3:
        assert opened == pytest.approx(want[2] / 100, abs=slack(want[2] / 100))


def test_plain_guidance_copies():
    for name in ("A memorizer", "B spikes, 40 groups", "C colours, 40 groups"):
        copies, on_prompt, _ = run(name, "plain 7.5")
        assert copies >= 0.7
        assert on_prompt == 1


def test_late_guidance_leaves_a_memorizer_at_chance():
    copies, on_prompt, _ = run("A memorizer", "static, time 0.5, before 0")
    drawings = points().caption.bincount()[:40]  # of each target's caption, the target one of them
    chance = float((1 / drawings).mean())
    assert copies == pytest.approx(chance, abs=slack(chance))
    assert on_prompt == 1


def test_opposite_guidance_moves_the_exit_earlier():
    at_zero, _, _ = run("B spikes, 40 groups", "static, time 0.85, before 0")
    opposite, on_prompt, _ = run("B spikes, 40 groups", "static, time 0.85, before -2")
    assert at_zero > slack(0)  # not yet out with no guidance ...
    assert opposite <= slack(0)  # ... and out, as far as 80 samples can tell, with opposite
    assert on_prompt >= 1 - slack(0)


def test_following_the_conditional_prediction_keeps_most_copies():
    plain, _, _ = run("B spikes, 40 groups", "plain 7.5")
    kept, _, _ = run("B spikes, 40 groups", "static, time 0.5, before 1")
    assert kept > plain / 2


def test_the_dynamic_rule_needs_its_fallback():
    _, without, opened = run("B spikes, 40 groups", "dynamic to the letter, before 0")
    copies, with_it, _ = run("B spikes, 40 groups", "dynamic, fallback 0.5, before 0")
    plain, _, _ = run("B spikes, 40 groups", "plain 7.5")
    assert without < 0.8
    # Unguided to the end, a sample shows its prompt by luck only: one group in 40.
    assert without == pytest.approx(opened, abs=slack(1 / 40))
    assert with_it == 1
    assert copies < plain / 5


def test_opposite_guidance_shows_the_dip_to_more_samples():
    opened = [run("B spikes, 40 groups", f"dynamic, fallback 0.5, before {b}")[2] for b in (0, -2)]
    assert opened[1] > opened[0]


@pytest.mark.parametrize(
    "rule",
    [
        "plain 7.5",
        "static, time 0.5, before 0",
        "static, time 0.85, before -2",
        "dynamic, defaults, before 0",
    ],
)
def test_without_alternatives_no_rule_helps(rule):
    copies, _, _ = run("A without exits", rule)
    assert copies >= 1 - slack(0)


@pytest.mark.parametrize("rule", ["plain 7.5", "static, time 0.5, before 1"])
def test_the_generalizer_never_copies(rule):
    assert run("D generalizer", rule)[0] == 0


def test_points_are_captioned_pictures_of_standard_deviation_one():
    some = emoji_points(captions=30, seed=5)
    assert some.pictures.shape == (len(some.caption), 3, 16, 16)
    assert some.caption.unique().tolist() == list(range(30))
    assert all(5 <= n <= 7 for n in some.caption.bincount().tolist())
    # Computed in float64 and rounded to float32.
    assert float(some.pictures.double().std(correction=0)) == pytest.approx(1, abs=1e-6)
    again, other = emoji_points(captions=30, seed=5), emoji_points(captions=30, seed=6)
    assert torch.equal(some.pictures, again.pictures)
    assert some.names != other.names


def test_shares_count_copies_and_prompts_by_the_nearest_picture():
    small = memorizer_world(emoji_points(captions=10), targets=2, draws=1)
    pictures, target = small.pictures, small.target
    assert small.shares(pictures[target]) == (1, 1)
    assert small.shares(pictures[target + 1]) == (0, 1)  # another drawing of the caption
    assert small.shares(pictures[target.flip(0)]) == (0, 0)  # the other caption
    shift = 1.01 * NEAR
    assert small.shares(pictures[target] + shift).copies == 0


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: emoji_points(captions=0), "the drawings allow 1 to"),
        (lambda: emoji_points(captions=10**6), "the drawings allow 1 to"),
        (lambda: memorizer_world(points(), targets=401), "there are 1 to 400 captions"),
    ],
)
def test_impossible_sizes_are_answered_with_a_sentence(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_the_examples_of_the_page_run(capsys):
    parts = PAGE.read_text(encoding="utf-8").split("```")
    for code in [part.removeprefix("python\n") for part in parts if part.startswith("python\n")]:
        exec(compile(code, str(PAGE), "exec"), {})
    assert "copies" in capsys.readouterr().out
