"""What a guider says when it can do nothing, or not what was asked."""

import sys
import warnings

import diffusers
import pytest
import torch
from adapters.guiders import guider, stock, tiny
from reference import guided_pipelines

import sidestep
from sidestep.errors import MissingExtra, SidestepError

pytestmark = pytest.mark.filterwarnings("ignore:guidance never came on")


def test_the_callers_scale_fills_in_where_the_rule_leaves_it_open():
    for rule, told in (
        (sidestep.Static(0.5), sidestep.Static(0.5, after=5.0)),
        (sidestep.Dynamic(), sidestep.Dynamic(after=5.0)),
        (sidestep.Constant(), sidestep.Constant(5.0)),
    ):
        assert rule.with_scale(5.0) == told
        assert told.with_scale(3.0) is told
    assert sidestep.Constant(4.0).with_scale(5.0) == sidestep.Constant(4.0)


def test_a_scale_of_one_or_below_changes_nothing_and_says_so_once(family):
    plain = stock(family, 1.0)
    with pytest.warns(UserWarning, match="no guidance to hold back") as caught:
        ours = guider(family, sidestep.Static(time=0.5, after=1.0), 1.0)
        assert torch.equal(family.run(ours), plain)
        assert torch.equal(family.run(ours), plain)
    assert len([w for w in caught if "no guidance" in str(w.message)]) == 1
    assert family.per_step() == [1] * guided_pipelines.STEPS


def test_a_disabled_guider_is_the_conditional_pipeline():
    family = tiny("sd3")
    ours = guider(family, sidestep.Dynamic(), enabled=False)
    assert ours.num_conditions == 1
    assert torch.equal(family.run(ours), stock(family, 1.0))


def test_never_coming_on_is_said(family):
    ours = guider(family, sidestep.Dynamic(earliest=1.0, fallback=None, drop=0.999))
    with pytest.warns(UserWarning, match="never came on for 3 of 3 samples"):
        family.run(ours)
    assert ours.trace.transition.tolist() == [-1, -1, -1]


def test_predictions_that_are_not_finite_are_said():
    family = guided_pipelines.sd3()
    ours = guider(family, sidestep.Dynamic())

    def break_one(module, args, kwargs, out):
        out[0][1] = torch.nan

    family.net.register_forward_hook(break_one, with_kwargs=True)
    with pytest.warns(UserWarning, match="not finite for 1 of 3 samples"):
        family.run(ours)


def test_without_its_scheduler_it_refuses_to_guess(family):
    with pytest.raises(SidestepError, match=r"set guider.scheduler = pipe.scheduler"):
        family.run(sidestep.Guider(sidestep.Dynamic()))
    foreign = diffusers.DDIMScheduler()
    foreign.set_timesteps(3)
    with pytest.raises(SidestepError, match="does not follow in the DDIMScheduler"):
        family.run(sidestep.Guider(sidestep.Dynamic(), scheduler=foreign))


def test_without_a_negative_branch_it_says_what_to_pass():
    family = tiny("sd3")
    with pytest.raises(SidestepError, match="pass negative_prompt_embeds"):
        family.run(
            guider(family, sidestep.Dynamic()),
            negative_prompt_embeds=None,
            negative_pooled_prompt_embeds=None,
        )


def test_what_is_no_rule_is_refused():
    with pytest.raises(SidestepError, match="did you mean dynamic"):
        sidestep.Guider("dynamik")
    with pytest.raises(SidestepError, match="has no setting tim"):
        sidestep.Guider({"name": "static", "tim": 0.5})
    with pytest.raises(SidestepError, match="int is no registered rule"):
        sidestep.Guider(3)
    with pytest.raises(ValueError, match="guidance_rescale is 2"):
        sidestep.Guider("static", guidance_rescale=2)
    with pytest.raises(SidestepError, match="has guided nothing yet"):
        _ = sidestep.Guider("static").trace
    assert sidestep.Guider("static").rule == sidestep.Static()


def test_without_diffusers_the_name_says_what_to_install(monkeypatch):
    monkeypatch.delitem(vars(sidestep), "Guider", raising=False)
    monkeypatch.delitem(sys.modules, "sidestep.adapters.guider")
    for name in ("diffusers", "diffusers.configuration_utils"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=r"sidestep\.Guider needs the package diffusers.*pip"):
        _ = sidestep.Guider


def test_a_pipeline_that_owns_its_guider_is_quiet_about_it():
    family = tiny("hunyuan-video")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        family.run(guider(family, sidestep.Dynamic()))
