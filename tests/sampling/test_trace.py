from dataclasses import fields, replace

import pytest
import torch
from reference import rules_loops
from reference.toy import Toy, first_noise

from sidestep.errors import BadRecords
from sidestep.guidance import Constant, Dynamic, Static
from sidestep.sampling import NoiseSchedule, Trace, sample

SCHEDULE = NoiseSchedule.scaled_linear()
DIPS = [0.95, 0.86, 0.74, 0.7, 0.5, 0.3, 0.1]
RULES = (
    Constant(7.5),
    Constant(0.0),
    Static(0.5, before=0.0),
    Static(0.5, before=1.0),
    Static(0.7, before=-2.0),
    Dynamic(before=0.0),
    Dynamic(before=-2.0, drop=0.2, earliest=0.9, latest=0.4, fallback=None),
)


def run(rule, dips=DIPS, **more):
    return sample(Toy.make(dips), first_noise(len(dips)), rule, SCHEDULE, steps=30, **more).trace


def same(a, b):
    return all(
        torch.equal(x.nan_to_num(-1), y.nan_to_num(-1)) and x.dtype == y.dtype
        for x, y in ((getattr(a, f.name), getattr(b, f.name)) for f in fields(Trace))
    )


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_trace_replayed_through_its_own_rule_is_itself(rule):
    trace = run(rule)
    # The gap of a replay is a norm of one number, sqrt(x * x), which is x in IEEE arithmetic.
    assert same(trace.replay(rule), trace)


def test_replay_through_another_rule_decides_from_the_recorded_gaps():
    trace = run(Constant(7.5))
    options = {"drop": 0.2, "earliest": 0.9, "latest": 0.2, "fallback": 0.3}
    replayed = trace.replay(Dynamic(before=-2.0, **options))
    for b in range(len(DIPS)):
        scales, transition, fell_back = rules_loops.dynamic(
            trace.time.tolist(), trace.gap[:, b].tolist(), -2.0, 7.5, **options
        )
        assert replayed.scale[:, b].tolist() == scales
        assert (int(replayed.transition[b]), bool(replayed.fell_back[b])) == (transition, fell_back)
    assert torch.equal(replayed.gap, trace.gap)
    assert trace.replay(Static(0.5, before=0.0)).cost == pytest.approx(0.75, abs=0.02)


def test_a_rule_that_needs_the_gap_refuses_a_trace_without():
    trace = run(Static(0.5, before=0.0))
    assert trace.gap[0].isnan().all()
    with pytest.raises(ValueError, match="dynamic rule needs cond and uncond at every step"):
        trace.replay(Dynamic())
    assert trace.replay(Static(0.7, before=-2.0)).transition.unique().numel() == 1


def test_a_run_with_finer_steps_is_not_replayed():
    trace = run(Dynamic(before=0.0, drop=0, earliest=1, fallback=None), finer=60)
    with pytest.raises(ValueError, match="a run with finer steps cannot be replayed"):
        trace.replay(Dynamic())


def test_save_and_load_give_the_same_trace(tmp_path):
    for rule in RULES:
        trace = run(rule)
        trace.save(tmp_path / "trace.safetensors")
        assert same(Trace.load(tmp_path / "trace.safetensors"), trace)
    assert [p.name for p in tmp_path.iterdir()] == ["trace.safetensors"]


def test_a_file_that_is_cut_missing_or_foreign_is_refused_with_a_sentence(tmp_path):
    from safetensors.torch import save_file

    file = tmp_path / "trace.safetensors"
    run(Dynamic()).save(file)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    save_file({"weight": torch.zeros(3)}, tmp_path / "foreign")
    parts = {f.name: getattr(run(Dynamic()), f.name) for f in fields(Trace)}
    save_file(parts | {"nfe": torch.zeros(2, dtype=torch.int64)}, tmp_path / "torn")
    for name in ("trace.safetensors", "missing", "foreign", "torn"):
        with pytest.raises(BadRecords, match=f"{name} is not a complete trace file"):
            Trace.load(tmp_path / name)


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "trace.safetensors"
    old = run(Constant(7.5))
    old.save(file)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        run(Dynamic()).save(file)
    assert same(Trace.load(file), old)


def test_cat_joins_samples():
    rule = Dynamic(before=-2.0)
    whole = run(rule)
    toy, x = Toy.make(DIPS), first_noise(len(DIPS))
    parts = [
        sample(toy.select(rows), x[rows], rule, SCHEDULE, steps=30).trace
        for rows in (torch.arange(0, 3), torch.arange(3, len(DIPS)))
    ]
    joined = Trace.cat(parts)
    assert torch.equal(joined.transition, whole.transition)
    assert torch.equal(joined.scale, whole.scale)
    assert torch.equal(joined.nfe, whole.nfe)
    with pytest.raises(ValueError, match="different time grids"):
        Trace.cat([whole, sample(toy, x, rule, SCHEDULE, steps=20).trace])
    with pytest.raises(ValueError, match="no traces to join"):
        Trace.cat([])


def test_transition_time_is_nan_where_guidance_never_came_on():
    trace = run(Dynamic(drop=0, earliest=1, fallback=None), dips=[0.8, -1.0])
    assert int(trace.transition[1]) == -1
    assert trace.transition_time[1].isnan()
    assert float(trace.transition_time[0]) == float(trace.time[trace.transition[0]])


def test_fields_of_different_runs_do_not_make_a_trace():
    trace = run(Constant())
    with pytest.raises(ValueError, match=r"nfe has shape \(2,\); with gap of shape \(30, 7\)"):
        replace(trace, nfe=trace.nfe[:2])
    with pytest.raises(ValueError, match="time has shape"):
        replace(trace, time=trace.time[:-1])
