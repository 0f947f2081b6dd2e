"""Guidance that comes on late, by swapping what goes into the network and touching no prediction.

Until its time a row's conditional side is given the unconditional conditioning, so that both
predictions are the unconditional one. Slow on purpose: every row is always evaluated. Nothing here
imports the library; what arguments are conditioning is written down with each family.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor


class Enough(Exception):
    """The network was called often enough."""


def swapped_until(family, pipe, rows, until: Mapping[int, int], *, steps, scale) -> Tensor:
    """Sample `rows` as `family.call` does; position p is unconditional for `until[p]` evaluations.

    An evaluation is one pair of predictions. It is a step for first-order schedulers; Heun and
    KDPM2 make two a step, PNDM repeats one early on.
    """
    if not family.conditioning:
        raise ValueError(f"{family.name}: swapped inputs do not give the unconditional prediction")
    if family.layout == "separate":
        change = SeparateCalls(family, unconditional_arguments(family, pipe, rows), until)
    else:
        change = OneCall(family, len(rows), until)
    with hooked(family, pipe, change):
        return family.call(pipe, rows, steps=steps, scale=scale)


def evaluations(family, pipe, rows, *, steps, scale) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """Both predictions of every evaluation of a stock call, (uncond, cond), and its result."""
    seen: list[Tensor] = []

    def keep(module, args, kwargs, output):
        first = output[0] if isinstance(output, tuple | list) else output.sample
        seen.append(torch.stack(first) if isinstance(first, list) else first.clone())

    with ExitStack() as stack:
        for name in family.denoisers:
            hook = getattr(pipe, name).register_forward_hook(keep, with_kwargs=True)
            stack.callback(hook.remove)
        result = family.call(pipe, rows, steps=steps, scale=scale)
    if family.layout == "separate":
        return [(u, c) for c, u in zip(seen[::2], seen[1::2], strict=True)], result
    b = len(rows)
    first, second = slice(0, b), slice(b, 2 * b)
    uncond, cond = (first, second) if family.layout == "batched [u,c]" else (second, first)
    return [(both[uncond], both[cond]) for both in seen], result


class OneCall:
    """Both halves are in one batch: copy the unconditional half's row over the conditional's."""

    def __init__(self, family, batch: int, until: Mapping[int, int]) -> None:
        self.names, self.batch, self.until = family.conditioning, batch, until
        self.cond_first = family.layout == "batched [c,u]"
        self.evaluation = 0

    def __call__(self, arguments: dict[str, Any]) -> None:
        places = [p for p, end in self.until.items() if self.evaluation < end]
        self.evaluation += 1
        for name in self.names:
            arguments[name] = self.swap(arguments[name], places)

    def swap(self, value: Any, places: Sequence[int]) -> Any:
        if isinstance(value, dict):
            return {key: self.swap(inner, places) for key, inner in value.items()}
        total = 2 * self.batch
        pairs = [(p, self.batch + p) if self.cond_first else (self.batch + p, p) for p in places]
        if isinstance(value, Tensor):
            # Some conditioning has several rows for a sample, such as one for each frame.
            blocks = value.reshape(total, -1, *value.shape[1:]).clone()
            for cond, uncond in pairs:
                blocks[cond] = blocks[uncond]
            return blocks.reshape(value.shape)
        if all(inner.shape[0] % total == 0 for inner in value):
            return [self.swap(inner, places) for inner in value]
        if len(value) != total:
            raise ValueError(f"{len(value)} entries are neither batches nor one for each row")
        entries = list(value)
        for cond, uncond in pairs:
            entries[cond] = entries[uncond]
        return entries


class SeparateCalls:
    """Calls alternate: give every first one rows of what every second one gets."""

    def __init__(self, family, uncond: Mapping[str, Any], until: Mapping[int, int]) -> None:
        self.names, self.uncond, self.until = family.conditioning, uncond, until
        self.calls = 0

    def __call__(self, arguments: dict[str, Any]) -> None:
        evaluation, second = divmod(self.calls, 2)
        self.calls += 1
        if second:
            return
        for name in self.names:
            mixed = arguments[name].clone()
            for place, end in self.until.items():
                if evaluation < end:
                    mixed[place] = self.uncond[name][place]
            arguments[name] = mixed


def unconditional_arguments(family, pipe, rows) -> dict[str, Any]:
    """The conditioning of the second call, which is the same at every step."""
    calls: list[dict[str, Any]] = []

    def look(arguments: dict[str, Any]) -> None:
        calls.append({name: arguments[name] for name in family.conditioning})
        if len(calls) == 2:
            raise Enough

    with hooked(family, pipe, look):
        try:
            family.call(pipe, rows, steps=4, scale=2.0)
        except Enough:
            return calls[1]
    raise ValueError(f"{family.name}: the network was called once only, so guidance was off")


@contextmanager
def hooked(family, pipe, change) -> Iterator[None]:
    """Let `change` edit the named arguments of every call of the denoisers."""

    def before(module, args, kwargs):
        bound = inspect.signature(module.forward).bind(*args, **kwargs)
        change(bound.arguments)
        return bound.args, bound.kwargs

    with ExitStack() as stack:
        for name in family.denoisers:
            hook = getattr(pipe, name).register_forward_pre_hook(before, with_kwargs=True)
            stack.callback(hook.remove)
        yield
