"""Whatever happens, the pipeline and its networks are put back, and nothing of a run stays."""

import copy
import gc
import threading
import weakref

import pytest
import torch
from adapters.families import FAMILIES

import sidestep
from sidestep.adapters.pipeline import handle_of
from sidestep.adapters.pipeline.hooks import _Forward

STATIC = sidestep.Static(0.5)
# Rows left out, a whole call left out, rows of a second network left out.
NAMES = ["sd-text2img", "wan", "sd-controlnet"]
BY_NAME = {family.name: family for family in FAMILIES}


class Made:
    """A pipeline, its networks, and a short call of it."""

    def __init__(self, name):
        self.family = BY_NAME[name]
        self.pipe = self.family.build()
        names = (*self.family.denoisers, "controlnet")
        self.networks = [n for n in (getattr(self.pipe, m, None) for m in names) if n is not None]

    def call(self, pipe=None, rows=(0, 1), steps=6):
        return self.family.call(pipe or self.pipe, rows, steps=steps, scale=4.0)

    def state(self):
        """All that attaching could change."""
        return [type(self.pipe), set(vars(self.pipe)), *map(hooks, self.networks)]


def hooks(network):
    return set(vars(network)), len(network._forward_hooks), len(network._forward_pre_hooks)


@pytest.fixture(params=NAMES)
def made(request):
    made = Made(request.param)
    made.stock = made.call()  # a pipeline notes a call's settings in itself
    made.before = made.state()
    return made


class Stop:
    """The network raises at its fourth call."""

    def __init__(self, network, error):
        self.network, self.error, self.left = network, error, 4

    def __enter__(self):
        self.handle = self.network.register_forward_pre_hook(self.count)

    def count(self, *_):
        self.left -= 1
        if not self.left:
            raise self.error

    def __exit__(self, *_):
        self.handle.remove()


@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt()], ids=repr)
def test_after_an_exception_or_an_interrupt_from_the_keyboard(made, error):
    with (
        pytest.raises(type(error)),
        Stop(made.networks[0], error),
        sidestep.guide(made.pipe, STATIC),
    ):
        made.call()
    assert made.state() == made.before
    assert torch.equal(made.call(), made.stock)

    run = sidestep.guide(made.pipe, STATIC)
    held = made.call()
    with pytest.raises(type(error)), Stop(made.networks[0], error):
        made.call()
    assert torch.equal(made.call(), held)
    run.remove()
    assert made.state() == made.before


def test_after_the_block_and_after_remove(made):
    with sidestep.guide(made.pipe, STATIC):
        held = made.call()
        assert made.state() != made.before
    assert made.state() == made.before
    run = sidestep.guide(made.pipe, STATIC)
    assert torch.equal(made.call(), held) and not torch.equal(held, made.stock)
    run.remove()
    assert made.state() == made.before and torch.equal(made.call(), made.stock)


def test_after_the_pipeline_is_collected(made):
    sidestep.guide(made.pipe, STATIC)
    made.call()
    del made.pipe
    gc.collect()
    assert [*map(hooks, made.networks)] == made.before[2:]


@pytest.mark.parametrize("removed", [True, False])
def test_a_handle_that_is_kept_keeps_no_network_and_no_latents(made, removed):
    run = sidestep.guide(made.pipe, STATIC)
    made.call()
    if removed:
        run.remove()
    networks = [weakref.ref(network) for network in made.networks]
    made.networks.clear()
    del made.pipe
    gc.collect()
    assert [network() for network in networks] == [None] * len(networks)
    assert run.trace.gap.shape == (6, 2)
    largest = max(t.numel() for t in reachable(run) if isinstance(t, torch.Tensor))
    assert largest <= 2, "one number a sample and step is all that a trace needs"


def reachable(root):
    """Everything an object holds on to, apart from classes and modules."""
    found, left = {}, [root]
    while left:
        one = left.pop()
        if id(one) in found or isinstance(one, type) or hasattr(one, "__spec__"):
            continue
        found[id(one)] = one
        if isinstance(one, torch.Tensor):
            continue
        inside = gc.get_referents(one) if not hasattr(one, "__globals__") else one.__closure__ or ()
        left.extend(inside)
    return found.values()


def test_a_run_of_one_step_and_other_batches_leave_nothing_behind(made):
    with sidestep.guide(made.pipe, "dynamic") as run:
        first = made.call()
        made.call(rows=(0, 1, 2), steps=1)
        assert run.trace.gap.shape == (1, 3)
        made.call(rows=(2,))
        assert run.trace.gap.shape == (6, 1)
        assert torch.equal(made.call(), first)


def test_copies_are_not_guided_and_run_on_weights_of_their_own(made):
    with sidestep.guide(made.pipe, STATIC) as run:
        held = made.call()
        doubled = copy.deepcopy(made.pipe)
        network = copy.deepcopy(made.networks[0])
        assert handle_of(doubled) is None
        assert torch.equal(made.call(doubled), made.stock)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.zero_()
        assert torch.equal(made.call(), held)
        network_pipe = other(made, **{made.family.denoisers[0]: network})
        assert not made.call(network_pipe).isclose(made.stock).all()
    # A copy can be guided on its own.
    doubled = copy.deepcopy(made.pipe)
    with sidestep.guide(doubled, STATIC) as run:
        assert torch.equal(made.call(doubled), held)
    assert run.trace.cost < 1


def test_saved_while_guided_it_is_the_stock_pipeline(made, tmp_path):
    with sidestep.guide(made.pipe, STATIC):
        made.call()
        made.pipe.save_pretrained(tmp_path)
    network = made.networks[0]
    loaded = type(network).from_pretrained(tmp_path / made.family.denoisers[0])
    assert set(loaded.state_dict()) == set(network.state_dict())
    again = other(made, **{made.family.denoisers[0]: loaded})
    assert torch.equal(made.call(again), made.stock)


def other(made, **parts):
    """A second pipeline with the same networks, or others, and a scheduler of its own."""
    scheduler = type(made.pipe.scheduler).from_config(made.pipe.scheduler.config)
    kind = type(made.family.build())
    again = kind(**made.pipe.components | {"scheduler": scheduler} | parts)
    again.set_progress_bar_config(disable=True)
    return again


def test_two_guided_pipelines_share_a_network_and_leave_in_any_order(made):
    with sidestep.guide(made.pipe, STATIC) as run:
        held = made.call()
    cost, second = run.trace.cost, other(made)
    first, last = sidestep.guide(made.pipe, STATIC), sidestep.guide(second, STATIC)
    assert torch.equal(made.call(), held) and torch.equal(made.call(second), held)
    first.remove()
    for _ in range(2):
        assert torch.equal(made.call(second), held)
    assert last.trace.cost == cost
    last.remove()
    assert made.state() == made.before


def test_threads_share_a_network(made):
    alone = {}
    for time in (0.4, 0.6, 0.8):
        with sidestep.guide(made.pipe, sidestep.Static(time)):
            alone[time] = made.call()
    found, pipes = {}, {time: other(made) for time in alone}

    def work(time):
        with sidestep.guide(pipes[time], sidestep.Static(time)):
            found[time] = [made.call(pipes[time]) for _ in range(3)]

    threads = [threading.Thread(target=work, args=(time,)) for time in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found) == set(alone)
    for time, results in found.items():
        assert all(torch.equal(result, alone[time]) for result in results)


def test_attaching_disturbs_no_thread_that_runs_the_network(made):
    errors, pipes = [], [other(made) for _ in range(4)]

    def work(pipe):
        try:
            for _ in range(8):
                with sidestep.guide(pipe, STATIC):
                    made.call(pipe, steps=2)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(pipe,)) for pipe in pipes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert made.state() == made.before


def test_a_call_that_is_left_out_is_left_out_of_its_own_thread():
    module = torch.nn.Identity()
    forward = _Forward.on(module)
    assert _Forward.on(module) is forward
    forward.give(torch.zeros(1))
    answers = []
    thread = threading.Thread(target=lambda: answers.append(module(torch.ones(1))))
    thread.start()
    thread.join()
    assert answers == [1] and not module(torch.ones(1)) and forward.gave()
    forward.release(module)
    assert "forward" not in vars(module)
