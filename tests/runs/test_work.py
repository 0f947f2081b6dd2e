"""Memory and ids of work units."""

from dataclasses import replace

import pytest
import torch
from reference import toy_run

from sidestep.errors import SidestepError
from sidestep.runs.generate import Job, method
from sidestep.runs.units import SIZE, units
from sidestep.runs.work import Memory


def test_memory_is_measured_on_a_gpu_only(monkeypatch):
    with Memory(torch.device("cpu")) as memory:
        pass
    assert memory.peak is None
    calls = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", calls.append)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 7 * len(calls))
    with Memory(torch.device("cuda")) as memory:
        assert memory.peak is None
    assert memory.peak == 7
    assert calls == [torch.device("cuda")]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_memory_of_a_gpu_is_that_of_the_block():
    held = torch.zeros(1 << 20, device="cuda")  # 4 MB that stay
    with Memory(held.device) as memory:
        torch.zeros(4 << 20, device="cuda")  # 16 MB that come and go
    before = memory.peak
    with Memory(held.device) as memory:
        pass
    assert before - memory.peak >= 16 << 20


def test_an_id_changes_with_all_that_defines_a_unit_and_nothing_else():
    plain, jobs, bound = toy_run.METHODS[0], toy_run.JOBS, {"seed": 1}
    first = units(jobs, [plain], bound)
    assert [len(u.jobs) for u in first] == [SIZE, SIZE, len(jobs) - 2 * SIZE]
    ids = {u.id for u in first}
    assert len(ids) == 3
    # In another order of methods the same units have the same ids, at other places.
    turned = units(jobs, toy_run.METHODS[::-1], bound)
    assert [u.id for u in turned[-3:]] == [u.id for u in first]
    others = [
        units(jobs, [plain], {"seed": 2}),
        units(jobs, [replace(plain, label="other")], bound),
        units(jobs, [method("constant", "plain", scale=3)], bound),
        units(jobs[1:], [plain], bound),
        units([replaced(j) for j in jobs], [plain], bound),
    ]
    for other in others:
        assert not ids & {u.id for u in other}


def replaced(job):
    """The same image, of another kind of prompt."""
    return Job(job.prompt, job.draw, "other")


def test_methods_of_one_folder_are_refused():
    twins = [method("static", "before -2"), method("static", "before 2")]
    with pytest.raises(SidestepError, match="'before -2' and 'before 2' would both write into"):
        units(toy_run.JOBS, twins, {})
