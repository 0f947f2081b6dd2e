"""Rules as guiders: modular SDXL and SD3, and a class pipeline that owns a guider."""

import json
import math

import diffusers
import pytest
import torch
from adapters.guiders import guider, stock, tiny
from reference import guided_pipelines, rules_loops

import sidestep

EULER = "sdxl"
pytestmark = pytest.mark.filterwarnings("ignore:guidance never came on")


def sd_time(timestep, scheduler):
    """Diffusion time by a search through Stable Diffusion's table, to a thousandth."""
    if not isinstance(scheduler, diffusers.FlowMatchEulerDiscreteScheduler):
        return timestep / 1000
    sigma = timestep / 1000
    kept, table = 1.0, []
    for k in range(1000):
        root = 0.00085**0.5 + (0.012**0.5 - 0.00085**0.5) * k / 999
        kept *= 1 - root**2
        table.append(abs(math.log(kept / (1 - kept)) - 2 * math.log((1 - sigma) / sigma + 1e-9)))
    return table.index(min(table)) / 1000


def noise_gaps(scheduler, gaps):
    """Gaps of velocities as gaps of noise predictions; those of SDXL are such already."""
    if not isinstance(scheduler, diffusers.FlowMatchEulerDiscreteScheduler):
        return gaps
    return [g * (1 - float(s)) for g, s in zip(gaps, scheduler.sigmas, strict=False)]


def relative(ours, theirs):
    return float((ours - theirs).abs().max() / theirs.abs().max())


# Float32, ten steps: rounding of one multiplication for another reaches a few parts in a million.
ROUNDING = 1e-5


@pytest.mark.parametrize(
    "rule",
    [
        sidestep.Constant(7.5),
        sidestep.Static(time=1.0, before=-2.0),
        sidestep.Dynamic(earliest=1.0, fallback=1.0),
    ],
    ids=["constant", "static", "dynamic"],
)
def test_an_immediate_transition_is_the_stock_pipeline_bit_for_bit(family, rule):
    assert torch.equal(family.run(guider(family, rule)), stock(family))


def test_a_transition_that_never_comes_is_the_unconditional_sample(family):
    alone = family.by_hand(lambda *_: 0.0)
    never = sidestep.Dynamic(earliest=1.0, fallback=None, drop=0.999)
    assert torch.equal(family.run(guider(family, never)), alone)
    assert family.per_step() == [2] * guided_pipelines.STEPS
    assert torch.equal(family.run(guider(family, sidestep.Constant(0.0))), alone)
    assert family.per_step() == [1] * guided_pipelines.STEPS


@pytest.mark.parametrize("before", [0.0, 1.0, -2.0])
def test_static_equals_a_loop_by_hand_and_makes_only_the_passes_it_needs(family, before):
    ours = guider(family, sidestep.Static(time=0.5, before=before))
    made = family.run(ours)
    passes = family.per_step()

    def decide(b, t, scheduler, gaps):
        return before if sd_time(t, scheduler) > 0.5 else 7.5

    assert relative(made, family.by_hand(decide)) < ROUNDING
    at = ours.trace.transition.tolist()[0]
    held = 1 if before in (0.0, 1.0) else 2
    assert passes == [held] * at + [2] * (guided_pipelines.STEPS - at)
    assert ours.trace.nfe.tolist() == [sum(passes)] * 3
    assert 0 < at < guided_pipelines.STEPS


def test_one_batch_with_a_time_for_each_sample(family):
    times = (0.9, 0.6, 0.3)
    ours = guider(family, sidestep.Static(time=times, before=-2.0))

    def decide(b, t, scheduler, gaps):
        return -2.0 if sd_time(t, scheduler) > times[b] else 7.5

    assert relative(family.run(ours), family.by_hand(decide)) < ROUNDING
    assert len(set(ours.trace.transition.tolist())) == 3


@pytest.mark.parametrize("before", [0.0, 1.0, -2.0])
def test_dynamic_equals_a_loop_by_hand_sample_by_sample(family, before):
    rule = sidestep.Dynamic(before=before, earliest=1.0, fallback=None)
    ours = guider(family, rule)
    steps = {}

    def decide(b, t, scheduler, gaps):
        gaps = noise_gaps(scheduler, gaps)
        ones = [1.0] * len(gaps)
        scales, steps[b], _ = rules_loops.dynamic(ones, gaps, before, 7.5, 0, 1, 0, None)
        return scales[-1]

    made, theirs = family.run(ours), family.by_hand(decide)
    assert ours.trace.transition.tolist() == [steps[b] for b in range(3)]
    assert len(set(steps.values()) - {-1}) >= 2, "samples of one batch must differ here"
    assert relative(made, theirs) < ROUNDING


def test_a_second_call_and_a_fresh_copy_are_the_same(family):
    ours = guider(family, sidestep.Dynamic(before=-2.0))
    first = family.run(ours)
    trace = ours.trace
    assert torch.equal(family.run(ours), first)
    assert torch.equal(ours.trace.gap, trace.gap)
    assert torch.equal(family.run(ours.new()), first)


def test_state_of_a_broken_generation_does_not_reach_the_next(family):
    ours = guider(family, sidestep.Dynamic(before=-2.0))
    first = family.run(ours)
    with pytest.raises(RuntimeError, match="stop"), Interruption(family.net, after=7):
        family.run(ours)
    assert torch.equal(family.run(ours), first)
    family.run(ours, steps=1)
    assert torch.equal(family.run(ours), first)


class Interruption:
    """The network fails at one of its calls."""

    def __init__(self, net, after):
        self.net, self.left = net, after

    def __enter__(self):
        self.handle = self.net.register_forward_pre_hook(self.count)

    def count(self, *_):
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("stop")

    def __exit__(self, *_):
        self.handle.remove()


@pytest.mark.parametrize(
    "rule",
    [
        sidestep.Constant(sidestep.Scheduled("linear", 9.0)),
        sidestep.Static(time=(0.9, 0.6, 0.3), before=-2.0, after=5.0),
        sidestep.Dynamic(before=1.0, drop=0.1),
    ],
    ids=["constant", "static", "dynamic"],
)
def test_saved_and_loaded_as_a_guider_configuration(rule, tmp_path):
    family = tiny(EULER)
    saved = guider(family, rule, 6.5, guidance_rescale=0.3)
    saved.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "guider_config.json").read_text())
    assert config["rule"]["name"] == type(rule).__name__.lower()
    loaded = sidestep.Guider.from_pretrained(tmp_path, scheduler=family.pipe.scheduler)
    for other in (loaded, saved.new()):
        assert (other.rule, other.guidance_scale, other.guidance_rescale) == (rule, 6.5, 0.3)
        assert other.scheduler is family.pipe.scheduler
    assert torch.equal(family.run(loaded), family.run(saved))
    assert saved.new(guidance_scale=3.0).guidance_scale == 3.0


def test_a_rescale_leaves_samples_that_are_held_back_alone():
    family = tiny(EULER)
    never = sidestep.Dynamic(before=-2.0, earliest=1.0, fallback=None, drop=0.999)
    plain, rescaled = guider(family, never), guider(family, never, guidance_rescale=0.7)
    assert torch.equal(family.run(rescaled), family.run(plain))
    immediate = guider(family, sidestep.Static(time=1.0), guidance_rescale=0.7)
    assert torch.equal(family.run(immediate), stock(family, guidance_rescale=0.7))


def test_half_precision_is_the_stock_pipeline_bit_for_bit_too():
    family = guided_pipelines.sdxl(torch.bfloat16)
    # 7.3 has no exact bfloat16: rounding the scale first would show.
    ours = guider(family, sidestep.Static(time=1.0, after=7.3), 7.3)
    assert torch.equal(family.run(ours), stock(family, 7.3))


@pytest.mark.parametrize(
    "scheduler", [diffusers.HeunDiscreteScheduler, diffusers.PNDMScheduler, diffusers.DDIMScheduler]
)
def test_schedulers_that_evaluate_twice_are_observed_once(scheduler):
    extra = {"skip_prk_steps": True} if scheduler is diffusers.PNDMScheduler else {}
    family = guided_pipelines.sdxl(scheduler=scheduler, **extra)
    immediate = family.run(guider(family, sidestep.Dynamic(earliest=1.0, fallback=1.0)))
    # Not the stock guider: with a scheduler of second order it stops guiding half-way, for it
    # compares the evaluation's number with the number of steps.
    assert relative(immediate, family.by_hand(lambda *_: 7.5)) < ROUNDING
    ours = guider(family, sidestep.Static(time=0.5, before=0.0))
    made, evaluations = family.run(ours), len(family.calls)
    every = family.pipe.scheduler.timesteps.tolist()
    order = family.pipe.scheduler.order

    def decide(_, t, scheduler, gaps):
        # The two evaluations of one step, or of one repeated timestep, are guided alike.
        number = len(gaps) - 1
        first = every[number - number % order]
        return 7.5 if first <= 500 else 0.0

    assert relative(made, family.by_hand(decide)) < ROUNDING
    assert ours.trace.time.tolist() == sorted(set(ours.trace.time.tolist()), reverse=True)
    assert len(ours.trace.time) == len(set(every))
    assert int(ours.trace.nfe[0]) == evaluations < int(ours.trace.plain[0])
    assert int(ours.trace.plain[0]) == 2 * len(every)
