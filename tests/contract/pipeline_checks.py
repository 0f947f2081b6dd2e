"""What the suite measures on a pipeline family; docs/generate_pipelines.py writes the same numbers.

The references know nothing of the rule or of the trick with the outputs: they are the stock
pipeline, whose network is given another prompt for the samples that are to be held back.
"""

import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import sidestep
from sidestep.errors import SidestepWarning

ROWS = (0, 1, 2)
STEPS = 8
SCALE = 4.0
PAPER = sidestep.Dynamic(drop=0, earliest=1, latest=0, fallback=None)


@dataclass(frozen=True)
class Measured:
    """Errors are the largest difference relative to the largest value; None = does not apply."""

    immediate: bool  # transition at once: bitwise equal to the stock pipeline
    restored: bool  # the stock pipeline again afterwards, bitwise
    never: float | None  # never guided, against the pipeline with unconditional inputs
    static: float | None  # samples that switch at different steps, against swapped inputs
    conditional: float | None  # the same with before=1
    dynamic: float | None
    transitions: tuple[int, ...]  # of the dynamic rule
    singles: float | None  # the batch against its samples alone
    cost: float  # of static with before 0, half of the steps before the transition


def error(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).abs().max() / expected.abs().max())


def guided(family: Any, pipe: Any, rule: Any, rows: Sequence[int] = ROWS) -> tuple[Tensor, Any]:
    """The guided result and its trace."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SidestepWarning)  # rules that never open are meant here
        with sidestep.guide(pipe, rule) as run:
            result = family.call(pipe, rows, steps=STEPS, scale=SCALE)
    return result, run.trace


def measure(family: Any, deep: bool = True) -> Measured:
    """All checks of one family; without `deep` those that need no reference by swapped inputs."""
    pipe = family.build()
    stock = family.call(pipe, ROWS, steps=STEPS, scale=SCALE)
    at_once, trace = guided(family, pipe, sidestep.Static(time=1.0))
    times = trace.time.tolist()
    immediate = torch.equal(at_once, stock)

    never, _ = guided(family, pipe, sidestep.Constant(0.0))
    unconditional = family.call(pipe, ROWS, steps=STEPS, scale=SCALE, swap=range(len(ROWS)))
    half = sidestep.Static(time=times[len(times) // 2], after=SCALE, before=0.0)
    _, spared = guided(family, pipe, half)
    dynamic, seen = guided(family, pipe, PAPER)
    found = tuple(seen.transition.tolist())

    static = conditional = swapped = singles = None
    if deep and family.conditioning:
        steps = [1, len(times) // 2, len(times) - 1]
        own = tuple(times[k] for k in steps)
        for before in (0.0, 1.0):
            got, made = guided(family, pipe, sidestep.Static(time=own, before=before))
            assert made.transition.tolist() == steps
            with swapping(family, pipe, steps, towards_cond=before == 1.0):
                expected = family.call(pipe, ROWS, steps=STEPS, scale=SCALE)
            if before == 0.0:
                static = error(got, expected)
            else:
                conditional = error(got, expected)
        with swapping(family, pipe, found):
            swapped = error(dynamic, family.call(pipe, ROWS, steps=STEPS, scale=SCALE))
    if deep:
        alone = [guided(family, pipe, PAPER, [row]) for row in ROWS]
        assert tuple(int(t.transition) for _, t in alone) == found
        singles = error(dynamic, torch.cat([x for x, _ in alone]))
    again = family.call(pipe, ROWS, steps=STEPS, scale=SCALE)
    return Measured(
        immediate=immediate,
        restored=torch.equal(again, stock),
        never=error(never, unconditional),
        static=static,
        conditional=conditional,
        dynamic=swapped,
        transitions=found,
        singles=singles,
        cost=spared.cost,
    )


@contextmanager
def swapping(
    family: Any, pipe: Any, transition: Sequence[int], towards_cond: bool = False
) -> Iterator[None]:
    """The stock pipeline whose network sees one prompt on both sides before the transition.

    That is the unconditional one, or with `towards_cond` the conditional one. -1 is never.
    """
    networks = [getattr(pipe, name) for name in family.denoisers]
    separate = family.layout == "separate"
    other: dict[str, Any] = {}
    if separate:
        # The conditional call comes first, so what the other one is given is looked up beforehand.
        with hooked(networks, lambda count, given: given if count % 2 else None, other):
            family.call(pipe, ROWS, steps=STEPS, scale=SCALE)

    def replace(count: int, given: dict[str, Any]) -> dict[str, Any] | None:
        step, second = divmod(count, 2) if separate else (count, 0)
        held = [i for i, t in enumerate(transition) if t < 0 or step < t]
        if not separate:
            c_first = family.layout == "batched [c,u]"
            return {
                n: swap_rows(given[n], held, c_first is not towards_cond)
                for n in family.conditioning
                if n in given
            }
        if second != towards_cond:
            return None
        source = last if towards_cond else other
        return {n: mix(given[n], source[n], held) for n in family.conditioning if n in given}

    last: dict[str, Any] = {}

    def remember(count: int, given: dict[str, Any]) -> dict[str, Any] | None:
        if separate and count % 2 == 0:
            last.update(given)
        return replace(count, given)

    with hooked(networks, remember):
        yield


@contextmanager
def hooked(
    networks: Sequence[torch.nn.Module],
    change: Callable[[int, dict[str, Any]], dict[str, Any] | None],
    into: dict[str, Any] | None = None,
) -> Iterator[None]:
    """Count the networks' calls and change their named arguments, or note what `change` gives."""
    count = 0

    def hook(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        nonlocal count
        names = list(inspect.signature(type(module).forward).parameters)[1:]
        given = dict(zip(names, args, strict=False)) | kwargs
        new = change(count, given)
        count += 1
        if into is not None:
            into.update(new or {})
            return None
        return ((), given | new) if new else None

    with ExitStack() as stack:
        for network in networks:
            handle = network.register_forward_pre_hook(hook, with_kwargs=True)
            stack.callback(handle.remove)
        yield


def swap_rows(value: Any, held: Sequence[int], second_from_end: bool) -> Any:
    """Rows `held` of one half replaced by those of the other half.

    The second half takes the first's, or with `second_from_end` the first half the second's.
    """
    if isinstance(value, dict):
        return {k: swap_rows(v, held, second_from_end) for k, v in value.items()}
    if (
        isinstance(value, list | tuple)
        and isinstance(value[0], Tensor)
        and (len(value[0]) % (2 * len(ROWS)) == 0 and value[0].ndim > 2)
    ):
        return type(value)(swap_rows(v, held, second_from_end) for v in value)
    if isinstance(value, list):
        value = list(value)
    elif isinstance(value, Tensor):
        value = value.clone()
    else:
        return value
    half = len(value) // 2
    each = half // len(ROWS)
    for i in held:
        for j in range(i * each, (i + 1) * each):
            first, second = (half + j, j) if not second_from_end else (j, half + j)
            value[first] = value[second]
    return value


def mix(value: Any, other: Any, held: Sequence[int]) -> Any:
    """Rows `held` taken from the other value."""
    if not isinstance(value, Tensor):
        return value
    value = value.clone()
    for i in held:
        value[i] = other[i]
    return value
