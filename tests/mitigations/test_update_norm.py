import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from contract.mitigation_cases import ordinary_region
from contract.test_mitigations import SCHEDULE, run
from reference import update_norm_loops
from reference.captioned import Captions

from sidestep.errors import BadRecords
from sidestep.guidance import Constant
from sidestep.guidance.config import as_dict, from_dict
from sidestep.mitigations import Start, Unfit
from sidestep.mitigations.base import Step
from sidestep.mitigations.update_norm import FIELDS, Calibration, Region, UpdateNorm
from sidestep.rng import noise
from sidestep.sampling import DDIM, DPMSolver
from sidestep.sampling.mitigated import sample_mitigated

REGION = ordinary_region()
MODEL = Captions({})


def steps_of(chain, prompts=("big red ship", "fox"), scale=3.0, seeds=(5, 6)):
    """Every step of a run, as hooks see it; the last hook looks."""
    seen = []

    class Look:
        def begin(self, start):
            return replace(start, after=(*start.after, lambda s: seen.append(s) or s.latent))

    start = begun(prompts, seeds, scale)
    sample_mitigated([*chain, Look()], start, Constant(scale), SCHEDULE, solver=DDIM())
    return seen


def begun(prompts=("big red ship", "fox"), seeds=(5, 6), scale=3.0, **more):
    x = noise(list(seeds), (3, 4, 4)).double()
    levels = tuple(SCHEDULE.grid(12))
    return Start(MODEL.denoiser(prompts), x, levels, tuple(seeds), prompts, scale=scale, **more)


def flat(x):
    return x.flatten(1).tolist()


def test_the_region_holds_the_literal_statistics():
    calibration = Calibration()
    steps = [
        steps_of([calibration]),
        steps_of([calibration], ("lamp", "tree", "fox"), 3.0, (7, 8, 9)),
    ]
    region = calibration.region()
    assert region.timesteps == tuple(s.level.timestep for s in steps[0])
    for at in range(12):
        runs = [
            (noise_, before, after, s[at].level.alpha, s[at].level.sigma)
            for s in steps
            for noise_, before, after in zip(
                flat(s[at].noise), flat(s[at].x), flat(s[at].latent), strict=True
            )
        ]
        expected = update_norm_loops.statistics_of(runs)
        got = [getattr(region, name)[at] for name in FIELDS]
        # float64 sums of 48 squares and of five runs.
        np.testing.assert_allclose(got, expected, rtol=1e-10)


@pytest.mark.parametrize("last", [False, True])
def test_a_step_is_corrected_as_the_literal_loop_does(last):
    generator = torch.Generator().manual_seed(0)

    def draw(*factors):
        rows = torch.randn(len(factors), 3, 4, 4, generator=generator, dtype=torch.float64)
        return rows * torch.tensor(factors, dtype=torch.float64).view(-1, 1, 1, 1)

    at = 11 if last else 4
    levels = SCHEDULE.grid(12)
    level, below = levels[at], None if last else levels[at + 1]
    x = draw(1, 1, 1, 1)
    unit = draw(1, 1, 1, 1)
    unit = unit / unit.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    mean, std = REGION.update_mean[at], REGION.update_std[at]
    # Inside, mildly outside, far above, far below.
    sizes = torch.tensor([mean + std, mean + 2.5 * std, mean + 9 * std, max(mean - 9 * std, 0.01)])
    step = Step(draw(1, 1, 1, 1), x, x + sizes.view(-1, 1, 1, 1) * unit, level, below)
    how = UpdateNorm(REGION, mild=2.0, strong=4.0)
    got = how._correct(step)
    done = []
    for b in range(4):
        expected, what = update_norm_loops.corrected(
            flat(step.noise)[b], flat(x)[b], flat(step.latent)[b], level.alpha, level.sigma,
            1.0 if below is None else below.alpha,
            [getattr(REGION, name)[at] for name in FIELDS], 2.0, 4.0,
        )  # fmt: skip
        # float64, sums of 48 squares.
        np.testing.assert_allclose(flat(got)[b], expected, rtol=1e-10, atol=1e-10)
        done.append(what)
    assert done[:3] == [None, "mild", "strong"] and done[3] in ("mild", "strong")
    assert torch.equal(got[0], step.latent[0])


def test_a_mild_correction_is_the_step_of_ddim_from_the_scaled_estimate():
    solver, how = DDIM(), UpdateNorm(REGION, mild=0.0, strong=None)
    step = steps_of([])[3]
    level, below = step.level, step.after
    at = REGION.timesteps.index(level.timestep)
    clean = (step.x - level.sigma * step.noise) / level.alpha
    scale = REGION.clean_mean[at] / clean.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    expected = below.alpha * scale * clean + below.sigma * step.noise
    latent, _ = solver.step(step.noise, step.x, level, below, None)
    got = how._correct(step._replace(latent=latent))
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


def test_a_strong_correction_ends_inside_the_region():
    seen = steps_of([UpdateNorm(REGION, mild=1.0, strong=1.0)], ("big red fox",) * 2)
    for at, step in enumerate(seen):
        length = step.latent.flatten(1).norm(dim=1)
        bound = REGION.latent_mean[at] + REGION.latent_std[at]
        change = (step.latent - step.x).flatten(1).norm(dim=1)
        moved = (change - REGION.update_mean[at]).abs() > REGION.update_std[at] + 1e-9
        assert (length[moved] <= bound + 1e-9).all()


def test_ordinary_runs_are_hardly_ever_outside_and_memorized_ones_are():
    def deviation(caption):
        made = steps_of([], (caption,) * 16, seeds=tuple(range(16)))
        rows = [
            ((s.latent - s.x).flatten(1).norm(dim=1) - mean).abs() / std
            for s, mean, std in zip(made, REGION.update_mean, REGION.update_std, strict=True)
        ]
        return torch.stack(rows).amax(0)

    # Seeds 0 to 15; the region was calibrated on others.
    assert (deviation("big red ship") > 4).float().mean() < 0.2
    memorized = Captions({"big red fox": 0})
    calibration = Calibration()
    _, _ = run(calibration, range(16))  # the memorized caption
    away = abs(calibration.region().update_mean[0] - REGION.update_mean[0]) / REGION.update_std[0]
    assert away > 3 and memorized.memorized


def test_a_region_survives_a_file_and_so_does_the_mitigation(tmp_path):
    REGION.save(tmp_path / "region.json")
    assert Region.load(tmp_path / "region.json") == REGION
    assert [f.name for f in tmp_path.iterdir()] == ["region.json"]
    how = UpdateNorm(REGION, 2.5, 5.0)
    assert from_dict(json.loads(json.dumps(as_dict(how)))) == how


@pytest.mark.parametrize("content", ["", "[1, 2]", '{"timesteps": [1.0]}', '{"a": 1'])
def test_a_broken_file_is_a_sentence(tmp_path, content):
    (tmp_path / "region.json").write_text(content)
    with pytest.raises(BadRecords, match="not a complete region file"):
        Region.load(tmp_path / "region.json")
    with pytest.raises(BadRecords, match="not a complete region file"):
        Region.load(tmp_path / "missing.json")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"scale": 7.5}, "scale 3.0 and the run has 7.5"),
        ({"network": "another"}, "network '' and the run has 'another'"),
        ({"levels": tuple(SCHEDULE.grid(10))}, "timesteps"),
    ],
)
def test_a_run_of_another_configuration_is_refused(change, word):
    start = replace(begun(solver="DDIM(clip=None)"), **change)
    with pytest.raises(Unfit, match="the region was calibrated for") as refused:
        UpdateNorm(REGION).begin(start)
    assert word in str(refused.value)


def test_another_solver_is_refused_by_the_loop():
    with pytest.raises(Unfit, match=r"solver 'DDIM\(clip=None\)' and the run has 'DPMSolver\(\)'"):
        sample_mitigated([UpdateNorm(REGION)], begun(), Constant(3.0), SCHEDULE, solver=DPMSolver())


def test_finer_steps_are_refused():
    with pytest.raises(Unfit, match="leave `finer` out"):
        sample_mitigated(
            [UpdateNorm(REGION)], begun(), Constant(3.0), SCHEDULE, solver=DDIM(), finer=24
        )


def test_calibrating_refuses_two_configurations_and_too_little():
    with pytest.raises(ValueError, match="no run was watched"):
        Calibration().region()
    calibration = Calibration()
    steps_of([calibration], ("fox",), seeds=(1,))
    with pytest.raises(ValueError, match="1 samples with all 12 steps"):
        calibration.region()
    with pytest.raises(ValueError, match="calibrate on one configuration"):
        steps_of([calibration], scale=5.0)


@pytest.mark.parametrize("wrong", [{"mild": -1.0}, {"strong": math.nan}])
def test_a_deviation_below_zero_is_refused(wrong):
    with pytest.raises(ValueError, match="number of standard deviations"):
        UpdateNorm(REGION, **wrong)


def test_the_name_of_a_file_is_no_region():
    with pytest.raises(ValueError, match=r"Region\.load\(path\) reads a file of one"):
        from_dict({"name": "update-norm", "region": "region.json"})


def test_a_region_needs_a_number_for_each_step():
    with pytest.raises(ValueError, match="update_std holds 11 numbers for 12 steps"):
        replace(REGION, update_std=REGION.update_std[1:])
