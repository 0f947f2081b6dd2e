from itertools import pairwise

import pytest
import torch
from reference import rules_loops
from reference.toy import Toy, first_noise

from sidestep.guidance import Constant, Dynamic, Prediction, Scheduled, Static
from sidestep.sampling import (
    DDIM,
    DPMSolver,
    NoiseSchedule,
    frames,
    probe_and_sample,
    sample,
)

SCHEDULE = NoiseSchedule.scaled_linear()
DIPS = [0.95, 0.9, 0.86, 0.8, 0.74, 0.7, 0.66, 0.62, 0.5, 0.45, 0.3, 0.1, 0.85, 0.77, 0.05, 0.6]
PAPER = {"drop": 0.0, "earliest": 1.0, "latest": 0.0, "fallback": None}
RULES = {
    "plain": Constant(7.5),
    "unconditional": Constant(0.0),
    "conditional": Constant(1.0),
    "scheduled": Constant(Scheduled("linear", 7.5)),
    "static 0": Static(0.5, before=0.0),
    "static 1": Static(0.7, before=1.0),
    "static opposite": Static(0.65, before=-2.0),
    "static each": Static(tuple(1 - b / 20 for b in range(16)), before=-2.0),
    "dynamic 0": Dynamic(before=0.0, **PAPER),
    "dynamic opposite": Dynamic(before=-2.0, drop=0.05),
}
each_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


@each_rule
@pytest.mark.parametrize("finer", [None, 80])
def test_nfe_is_what_the_network_was_asked(rule, finer):
    toy = Toy.make(DIPS)
    made = sample(toy, first_noise(16), rule, SCHEDULE, steps=20, finer=finer)
    assert torch.equal(made.trace.nfe, toy.count)


@pytest.mark.parametrize(
    "rule, cost",
    [
        (Constant(7.5), 1.0),
        (Constant(0.0), 0.5),
        (Static(0.5, before=0.0), 0.75),  # 25 of 50 steps with one evaluation
        (Static(0.5, before=1.0), 0.75),
        (Static(0.7, before=0.0), 0.85),
        (Static(0.5, before=-2.0), 1.0),
        (Dynamic(), 1.0),
    ],
)
def test_cost_against_plain_guidance(rule, cost):
    toy = Toy.make([0.8, 0.3])
    trace = sample(toy, first_noise(2), rule, SCHEDULE).trace
    assert trace.cost == pytest.approx(cost, abs=1e-12)
    assert toy.count.tolist() == [round(cost * 100)] * 2


@pytest.mark.parametrize(
    "time, pairs", [(0.5, 25 + 100), (0.839, 8 + 168), (0.779, 11 + 156), (1.0, 200), (0.0, 50)]
)
def test_finer_steps_cost_what_the_released_scripts_cost(time, pairs):
    # Evaluated pairs of the released re-gridding from 50 to 200 steps, switched at that time; a
    # sample that is guided from the start takes all 200, one that never is stays at 50.
    toy = Toy.make([0.5])
    trace = sample(toy, first_noise(1), Static(time, before=-2.0), SCHEDULE, finer=200).trace
    assert trace.nfe.tolist() == toy.count.tolist() == [2 * pairs]


@each_rule
@pytest.mark.parametrize("finer, solver", [(None, DPMSolver()), (None, DDIM()), (30, DPMSolver())])
def test_a_batch_is_its_singles(rule, finer, solver):
    def run(rows):
        own = rule
        if isinstance(rule, Static) and isinstance(rule.time, tuple):
            own = Static(tuple(rule.time[b] for b in rows), rule.before, rule.after)
        toy = Toy.make(DIPS).select(torch.tensor(rows))
        x = first_noise(16)[rows]
        return sample(toy, x, own, SCHEDULE, steps=12, finer=finer, solver=solver)

    whole = run(list(range(16)))
    for size in (1, 4):
        for first in range(0, 16, size):
            rows = list(range(first, first + size))
            part = run(rows)
            # Additions, products and quotients of float64 round alike anywhere in a batch.
            assert torch.equal(part.latents, whole.latents[rows])
            assert torch.equal(part.trace.transition, whole.trace.transition[rows])
            assert torch.equal(part.trace.fell_back, whole.trace.fell_back[rows])
            assert torch.equal(part.trace.nfe, whole.trace.nfe[rows])
            # A float32 norm over 6 numbers may add them in another order.
            torch.testing.assert_close(
                part.trace.gap, whole.trace.gap[:, rows], rtol=1e-6, atol=0, equal_nan=True
            )


def test_samples_of_one_batch_open_at_their_own_steps_after_their_own_dips():
    toy = Toy.make(DIPS)
    trace = sample(toy, first_noise(16), Dynamic(before=-2.0, **PAPER), SCHEDULE).trace
    for dip, time in zip(DIPS, trace.transition_time.tolist(), strict=True):
        # The minimum lies within one step (.02) of the dip and is seen one step later.
        assert dip - 0.041 <= time <= dip + 0.001
    assert len(set(trace.transition.tolist())) > 10


def literal_run(toy, x, rule_scale, levels):
    """The whole of a DDIM run written out, a scale per step from `rule_scale(step, gaps)`."""
    gaps = []
    for step, level in enumerate(levels):
        prediction = toy(x, level, Constant(7.5).needs(level.time))
        uncond, cond = prediction.uncond[0].flatten(), prediction.cond[0].flatten()
        gaps.append(rules_loops.gap(uncond.tolist(), cond.tolist()))
        noise = torch.tensor(
            rules_loops.combine(uncond.tolist(), cond.tolist(), rule_scale(step, gaps)),
            dtype=torch.float64,
        ).view_as(x)
        clean = (x - level.sigma * noise) / level.alpha
        if step + 1 == len(levels):
            return clean, gaps
        x = levels[step + 1].alpha * clean + levels[step + 1].sigma * noise
    raise AssertionError


@pytest.mark.parametrize("before", [0.0, 1.0, -2.0])
def test_a_dynamic_run_is_the_literal_run(before):
    levels = SCHEDULE.grid(30)
    options = {"drop": 0.1, "earliest": 0.85, "latest": 0.2, "fallback": 0.4}
    rule = Dynamic(before=before, after=7.5, **options)
    made = sample(Toy.make(DIPS), first_noise(16), rule, SCHEDULE, steps=30, solver=DDIM())

    def scale(step, gaps):
        times = [level.time for level in levels[: step + 1]]
        return rules_loops.dynamic(times, gaps, before, 7.5, **options)[0][-1]

    for b in range(0, 16, 3):
        one = Toy.make(DIPS).select(torch.tensor([b]))
        latents, gaps = literal_run(one, first_noise(16)[[b]], scale, levels)
        # float64 throughout; 30 steps in another order of operations.
        torch.testing.assert_close(made.latents[[b]], latents, rtol=1e-9, atol=1e-9)
        # The trace keeps gaps in float32.
        torch.testing.assert_close(made.trace.gap[:, b].double(), torch.tensor(gaps).double(),
                                   rtol=1e-6, atol=0)  # fmt: skip


def test_a_static_run_is_the_literal_run():
    levels = SCHEDULE.grid(50)
    made = sample(Toy.make([0.5]), first_noise(1), Static(0.65, -2.0), SCHEDULE, solver=DDIM())
    scales = rules_loops.static([level.timestep for level in levels], 650, -2.0, 7.5)
    latents, _ = literal_run(Toy.make([0.5]), first_noise(1), lambda step, _: scales[step], levels)
    torch.testing.assert_close(made.latents, latents, rtol=1e-9, atol=1e-9)


def test_finer_steps_follow_the_fine_grid_from_each_transition_on():
    rule, times = Static((0.839, 0.5), before=-2.0), (839, 500)
    made = sample(Toy.make([0.4, 0.4]), first_noise(2), rule, SCHEDULE, solver=DDIM(), finer=200)
    for b, change in enumerate(times):
        coarse = [level for level in SCHEDULE.grid(50) if level.timestep > change]
        levels = [*coarse, *SCHEDULE.grid_from(SCHEDULE.level(change), 200)]
        scales = rules_loops.static([level.timestep for level in levels], change, -2.0, 7.5)
        one = Toy.make([0.4, 0.4]).select(torch.tensor([b]))
        latents, _ = literal_run(one, first_noise(2)[[b]], lambda s, _, w=scales: w[s], levels)
        torch.testing.assert_close(made.latents[[b]], latents, rtol=1e-9, atol=1e-9)


def test_finer_steps_start_the_solver_anew_and_use_the_prediction_they_have():
    rule, grid = Static(0.5, before=0.0), SCHEDULE.grid(50)
    toy, x = Toy.make([0.5]), first_noise(1)
    (at,) = (f for f in frames(toy, x, rule, grid) if f.level.timestep == 500)
    fine = SCHEDULE.grid_from(at.level, 200)
    # Without a history the first fine step is of first order: DDIM's.
    latent, _ = DDIM().step(at.guided.noise, at.x, at.level, fine[1], None)
    _, memory = DPMSolver().step(at.guided.noise, at.x, at.level, fine[1], None)
    for level, after in zip(fine[1:], [*fine[2:], None], strict=True):
        guided, _ = rule.step(toy(latent, level, rule.needs(level.time)), rule.init(1))
        latent, memory = DPMSolver().step(guided.noise, latent, level, after, memory)
    made = sample(Toy.make([0.5]), x, rule, SCHEDULE, finer=200)
    # DDIM and first-order DPM-Solver++ are one formula in two forms; float64.
    torch.testing.assert_close(made.latents, latent, rtol=1e-9, atol=1e-9)


def test_the_trace_of_a_finer_run_ends_where_the_sample_left_the_grid():
    rule = Static((0.839, 0.5), before=-2.0)
    trace = sample(Toy.make([0.4, 0.4]), first_noise(2), rule, SCHEDULE, finer=200).trace
    assert trace.transition.tolist() == [8, 25]
    assert (~trace.gap.isnan()).sum(0).tolist() == [9, 26]
    assert (~trace.scale.isnan()).sum(0).tolist() == [9, 26]


def test_frames_show_each_step_and_end_where_sample_ends():
    rule = Dynamic(before=-2.0)
    seen = list(frames(Toy.make(DIPS), first_noise(16), rule, SCHEDULE.grid(20)))
    made = sample(Toy.make(DIPS), first_noise(16), rule, SCHEDULE, steps=20)
    assert [f.level for f in seen] == SCHEDULE.grid(20)
    assert all(torch.equal(a.latent, b.x) for a, b in pairwise(seen))
    assert torch.equal(seen[-1].latent, made.latents)
    assert torch.equal(torch.stack([f.guided.scale for f in seen]), made.trace.scale)


def test_an_empty_batch_is_refused():
    toy, x = Toy.make([]), torch.zeros(0, 3, 2)
    for run in (sample, probe_and_sample):
        with pytest.raises(ValueError, match="the batch is empty; give at least one prompt"):
            run(toy, x, *([Dynamic()] if run is sample else []), SCHEDULE)


def test_fewer_finer_steps_are_refused():
    with pytest.raises(ValueError, match="finer is 20 and steps 50"):
        sample(Toy.make([0.5]), first_noise(1), Static(), SCHEDULE, finer=20)


def test_noise_of_another_shape_is_refused():
    class TwoOutputs(Toy):
        def __call__(self, x, level, needs):
            both = torch.cat([x, x], dim=1)  # as a network that predicts a variance too
            return Prediction(both, both + 1, level.time)

    with pytest.raises(
        ValueError, match=r"latents of shape \(1, 3, 2\) with noise of shape \(1, 6"
    ):
        sample(TwoOutputs.make([0.5]), first_noise(1), Constant(), SCHEDULE)
