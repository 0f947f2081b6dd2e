import pytest
import torch
from mitigations.runs import CLOSE, LEVELS, logits, started
from reference.text_methods import attenuated, guard

from sidestep.guidance import Constant, Needs, Static
from sidestep.guidance.base import BOTH
from sidestep.mitigations import Place
from sidestep.mitigations.cross_attention import AttentionMasking
from sidestep.mitigations.guard import Guard, SpikeAttenuation

UNCOND, COND = Needs(cond=False), Needs(uncond=False)


@pytest.mark.parametrize("branch", ["uncond", "cond"])
@pytest.mark.parametrize("section", ["down", "mid", "up"])
@pytest.mark.parametrize("threshold", [-0.5, 0.01, 1.0])
def test_logits_are_those_of_the_formula(branch, section, threshold):
    text, given = started().text, logits()
    edit = SpikeAttenuation(0.3, threshold).edit
    made = edit(given, text, Place("layer", section, branch))
    for b in range(len(given)):
        expected = attenuated(given[b].tolist(), branch, section, 0.3, threshold)
        torch.testing.assert_close(made[b], torch.tensor(expected, dtype=made.dtype), **CLOSE)
    changes = branch == "cond" and section != "up"
    assert torch.equal(made, given) != changes


def test_neither_the_start_token_nor_a_negative_logit_is_touched():
    given = logits()
    given[..., 0] = 50.0
    made = SpikeAttenuation(0.0, -10.0).edit(given, started().text, Place("l", "mid", "cond"))
    assert torch.equal(made[..., 0], given[..., 0])
    assert torch.equal(made[given < 0], given[given < 0])
    assert (made[..., 1:][given[..., 1:] > 0] == 0).all()


def test_tokens_that_are_all_alike_have_no_spike():
    given = torch.full((1, 1, 2, 10), 0.7, dtype=torch.float64)
    text = started(("fox",)).text
    assert torch.equal(SpikeAttenuation().edit(given, text, Place("l", "down", "cond")), given)


def test_tokens_masked_before_have_no_say_in_what_spikes():
    text, given, place = started().text, logits(), Place("l", "down", "cond")
    length = int(text.length.min())
    shown = SpikeAttenuation().edit(given[..., :length], text, place)
    masked = AttentionMasking(boost=1.0).edit(given, text, place)
    made = SpikeAttenuation().edit(masked, text, place)
    b = int(text.length.argmin())
    torch.testing.assert_close(made[b, ..., :length], shown[b], **CLOSE)
    assert (made[b, ..., length:] == -torch.inf).all()


@pytest.mark.parametrize("scale", [1.0, 3.0, 7.5])
def test_guidance_of_the_runs_scale_follows_the_formula(scale):
    start, settings = started(scale=scale), Guard(repel=1.5)
    denoiser = settings.begin(start).denoiser
    calm = SpikeAttenuation(settings.factor, settings.threshold).begin(start).denoiser
    for level in LEVELS[::4]:
        plain, plus = start.denoiser(start.x, level, BOTH), calm(start.x, level, COND)
        guided, _ = Constant(scale).step(denoiser(start.x, level, BOTH), None)
        for b in range(len(start.x)):
            flat = (v[b].flatten().tolist() for v in (plain.uncond, plain.cond, plus.cond))
            expected = torch.tensor(guard(*flat, scale, 1.5), dtype=torch.float64)
            torch.testing.assert_close(guided.noise[b].flatten(), expected, **CLOSE)


def test_evaluations_are_counted_whatever_a_rule_asks_for():
    start = started()
    denoiser = Guard().begin(start).denoiser
    for needs, expected in ((BOTH, 3), (COND, 3), (UNCOND, 1)):
        begun = start.denoiser.count.clone()
        made = denoiser(start.x, LEVELS[0], needs)
        made_in_truth = (start.denoiser.count - begun).tolist()
        assert needs.uncond + needs.cond + made.extra == expected
        assert made_in_truth == [expected] * len(start.x)


def test_a_rule_that_withholds_guidance_withholds_the_push():
    start = started()
    rule = Static(time=0.5, before=0.0, after=3.0)
    made = Guard().begin(start).denoiser(start.x, LEVELS[0], rule.needs(LEVELS[0].time))
    plain = start.denoiser(start.x, LEVELS[0], UNCOND)
    assert torch.equal(made.uncond, plain.uncond) and made.extra == 0


def test_scale_0_is_refused():
    start = started(scale=0.0)
    with pytest.raises(ValueError, match="scale above 0"):
        Guard().begin(start).denoiser(start.x, LEVELS[0], BOTH)


@pytest.mark.parametrize("kind", [SpikeAttenuation, Guard])
@pytest.mark.parametrize("given", [{"factor": 1.1}, {"threshold": float("nan")}])
def test_settings_out_of_range_are_refused(kind, given):
    with pytest.raises(ValueError, match=next(iter(given))):
        kind(**given)
