import math

import pytest
import torch
from mitigations.runs import CLOSE, LEVELS, MEMORIZED, ORDINARY, SCHEDULE, started
from reference.text_methods import reanchored

from sidestep.guidance import Constant, Needs
from sidestep.guidance.base import BOTH
from sidestep.mitigations.perturbation import RandomWords
from sidestep.mitigations.prompt_optimization import PromptOptimization
from sidestep.mitigations.reanchoring import PromptReanchoring
from sidestep.mitigations.rewording import Rewording
from sidestep.sampling import DDIM
from sidestep.sampling.mitigated import sample_mitigated

OTHER = Rewording(((MEMORIZED, "red ship"), (ORDINARY, "lamp tree")))
UNCOND, COND = Needs(cond=False), Needs(uncond=False)


def gaps(start):
    return start.denoiser(start.x, start.levels[0], BOTH).gap


@pytest.mark.parametrize("scale", [1.5, 3.0, 7.5])
@pytest.mark.parametrize("low, high", [(0.05, 0.3), (0.2, 0.9), (1e-4, 1e-3), (50.0, 60.0)])
def test_guidance_of_the_runs_scale_follows_the_formula(scale, low, high):
    start = started(scale=scale)
    denoiser = PromptReanchoring(low, high, 0.0, OTHER).begin(start).denoiser
    reworded = OTHER.begin(start).denoiser
    for level in LEVELS[::3]:
        old, new = (d(start.x, level, BOTH) for d in (start.denoiser, reworded))
        guided, _ = Constant(scale).step(denoiser(start.x, level, BOTH), None)
        for b in range(len(start.x)):
            flat = (v[b].flatten().tolist() for v in (old.uncond, old.cond, new.cond))
            expected = torch.tensor(reanchored(*flat, scale, low, high), dtype=torch.float64)
            torch.testing.assert_close(guided.noise[b].flatten(), expected, **CLOSE)


@pytest.mark.parametrize("size", [2.0, 3.0, 5.0])
def test_nothing_jumps_at_the_thresholds(size):
    rows = torch.randn(3, 1, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    uncond, original, direction = rows
    unit, guided = direction / direction.norm(), PromptReanchoring().guided
    below, above = (
        guided(uncond, original, uncond + (size + e) * unit, 7.5) for e in (-1e-9, 1e-9)
    )
    # The formula's slope is of the order of the scale times the predictions.
    torch.testing.assert_close(below, above, atol=1e-6, rtol=0)


def test_quiet_samples_are_left_alone_and_pay_for_one_look():
    start = started()
    loud = int(gaps(start).argmax())
    trigger = float(gaps(start).mean())
    made = sample_mitigated(
        [PromptReanchoring(trigger=trigger, other=OTHER)], start, Constant(3.0), SCHEDULE,
        solver=DDIM(),
    )  # fmt: skip
    plain = sample_mitigated([], start, Constant(3.0), SCHEDULE, solver=DDIM())
    same = [torch.equal(a, b) for a, b in zip(made.latents, plain.latents, strict=True)]
    assert same == [b != loud for b in range(2)]
    assert made.trace.nfe.tolist() == [2 + (3 if b == loud else 2) * len(LEVELS) for b in range(2)]


@pytest.mark.parametrize("needs", [BOTH, COND, UNCOND])
def test_evaluations_are_counted_whatever_a_rule_asks_for(needs):
    start = started()
    trigger = float(gaps(start).mean())
    denoiser = PromptReanchoring(trigger=trigger, other=OTHER).begin(start).denoiser
    begun = start.denoiser.count.clone()
    made = denoiser(start.x, LEVELS[0], needs)
    counted = needs.uncond + needs.cond + torch.zeros(2, dtype=torch.int64) + made.extra
    assert torch.equal(start.denoiser.count - begun, counted)
    assert (made.cond is made.uncond) == (needs != BOTH)


def test_what_the_other_mitigation_reports_is_reported():
    start = started()
    hopeless = PromptOptimization(target=0.0, steps=2)
    made = PromptReanchoring(trigger=0.0, other=hopeless).begin(start)
    (outcome,) = made.outcomes
    assert outcome.name == "prompt-reanchoring"
    assert outcome.reached.tolist() == [False, False]
    assert outcome.nfe.tolist() == [2 + 6, 2 + 6] and outcome.backward.tolist() == [2, 2]


def test_a_sample_that_is_not_reworded_is_left_alone_and_has_not_reached_its_target():
    start = started()
    other = Rewording(((MEMORIZED, "red ship"),))
    made = PromptReanchoring(trigger=0.0, other=other).begin(start)
    assert made.outcomes[0].reached.tolist() == [True, False]
    plain, moved = (d(start.x, LEVELS[2], BOTH).cond for d in (start.denoiser, made.denoiser))
    assert torch.equal(plain[1], moved[1]) and not torch.equal(plain[0], moved[0])


def test_a_sample_in_a_batch_is_the_sample_alone():
    start = started((MEMORIZED, ORDINARY, MEMORIZED))
    settings = PromptReanchoring(trigger=float(gaps(start).median()), other=RandomWords(3))
    made = settings.begin(start)
    together = made.denoiser(start.x, LEVELS[3], BOTH)
    for b in range(3):
        begun = settings.begin(start.select(torch.tensor([b])))
        alone = begun.denoiser(start.x[[b]], LEVELS[3], BOTH)
        torch.testing.assert_close(together.cond[b], alone.cond[0], **CLOSE)
        part = made.denoiser.select(torch.tensor([b]))(start.x[[b]], LEVELS[3], BOTH)
        torch.testing.assert_close(part.cond, alone.cond, **CLOSE)
        for whole, one in zip(made.outcomes[0][1:], begun.outcomes[0][1:], strict=True):
            assert whole[b] == one[0]


def test_a_scale_of_1_is_refused():
    with pytest.raises(ValueError, match="scale above 1"):
        PromptReanchoring().begin(started(scale=1.0))


@pytest.mark.parametrize(
    "given, word",
    [({"low": 5.0, "high": 5.0}, "high"), ({"high": math.inf}, "high"), ({"low": -1.0}, "low"),
     ({"trigger": math.nan}, "trigger")],
)  # fmt: skip
def test_settings_out_of_range_are_refused(given, word):
    with pytest.raises(ValueError, match=word):
        PromptReanchoring(**given)
