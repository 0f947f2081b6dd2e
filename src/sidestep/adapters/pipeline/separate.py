"""Pipelines that ask for the two predictions in two network calls, the conditional one first."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from sidestep.adapters.pipeline.calls import Call, Skip, channels_of, complete, device_of, same
from sidestep.adapters.pipeline.generation import Collapsed
from sidestep.adapters.pipeline.rows import Arguments, answer, argument, select, spread
from sidestep.errors import SidestepError
from sidestep.guidance.base import BOTH, Needs


class Pending(NamedTuple):
    """A conditional call that waits for its unconditional partner."""

    sample: Tensor
    needs: list[Needs]
    tensor: Tensor | None = None  # what the pipeline holds, (B, *S)


class Separate(Call):
    """Two network calls a step, the conditional one first.

    What to do is known when the second has answered. The first answer is then written over in
    place; where the pipeline copied it in between, the second is solved for instead.
    """

    pending: Pending | None = None
    keep: list[int] | None = None
    second = False
    paired = False  # both calls of a step of this generation have been seen
    active = False
    blank: Any = None  # the last conditional answer, whose shape a call that is left out has
    network = ""

    def before(self, module: Any, network: str, call: Arguments) -> Arguments | Skip | None:
        """The arguments to use instead, `Skip` for a call to leave out, None for what came."""
        names = self.names(module)
        sample = argument(names, call)
        self.network, self.keep, self.active = network, None, True
        self.network_calls += 1
        pending = self.pending
        self.second = pending is not None and same(pending.sample, sample)
        if self.second:
            assert pending is not None
            wanted = [n.uncond for n in pending.needs]
        else:
            self._unanswered()
            if not self.wants_guidance():
                self.unguided += 1
                self.active = False
                return None
            if self.begins(len(sample)):
                self.open(len(sample), device_of(sample))
                self.paired = False
            needs = self.step(module, call)
            spare = self.can_skip(module) and any(n != BOTH for n in needs)
            self.prepares = self.prepares or spare
            # The first step is made in full: it shows that the pipeline makes both calls.
            if not (self.paired and spare):
                needs = [BOTH] * len(needs)
            self.pending = Pending(sample, needs)
            wanted = [n.cond for n in needs]
        keep = [i for i, wants in enumerate(wanted) if wants]
        if len(keep) == len(sample):
            return None
        if not keep:
            tensor, put = answer(self.blank)
            return Skip(put(torch.zeros_like(tensor)))
        self.keep = keep
        return select(names, call, len(sample), keep)

    def after(
        self, module: Any, network: str, call: Arguments, output: Any, skipped: bool = False
    ) -> Any:
        """The answer to give instead, None for the network's own."""
        if not self.active:
            return None
        pending, generation = self.pending, self.generation
        assert pending is not None and generation is not None
        tensor, put = answer(output)
        needs = pending.needs
        if self.keep is not None:
            tensor = spread(tensor, len(needs), self.keep)
        elif not skipped:  # every row was computed, also where leaving the call out did not work
            needs = [Needs(True, n.cond) if self.second else Needs(n.uncond, True) for n in needs]
        if not self.second:
            self.blank = output if self.blank is None else self.blank
            self.pending = Pending(pending.sample, needs, tensor)
            return put(tensor) if self.keep is not None else None
        assert pending.tensor is not None
        self.pending, self.paired = None, True
        held = pending.tensor
        uncond, cond = complete(tensor, held, needs)
        channels = channels_of(tensor, argument(self.names(module), call))
        scale = self.scale(self.network)
        result = generation.collapse(uncond, cond, needs, scale, channels)
        if self.layout.copies:
            return put(self._solve(result, held, tensor))
        held.copy_(result.cond)
        return put(result.uncond)

    def finish(self) -> None:
        """The pipeline has returned; no call may be left unanswered."""
        self._unanswered()

    def _unanswered(self) -> None:
        """A conditional call stayed alone: the pipeline follows it without guidance."""
        pending, self.pending = self.pending, None
        if pending is None:
            return
        self.unguided += 1
        if any(not n.cond for n in pending.needs):
            raise SidestepError(
                f"{type(self.pipe).__name__} made no unconditional call at a step at which the "
                "conditional one had been left out as not needed, so it went on from zeros. It "
                "turns guidance off during a run: compute every call, sidestep.guide(pipe, rule, "
                "skip=False)"
            )

    def _solve(self, result: Collapsed, held: Tensor, uncond: Tensor) -> Tensor:
        """The second answer with which `S first + (1 - S) second` is the wanted prediction."""
        scale = self.scale(self.network)
        if scale is None:
            raise SidestepError(
                f"{type(self.pipe).__name__} was called with no {self.layout.scale} that is a "
                "number, and the answer to give it depends on it; pass one"
            )
        wide = torch.promote_types(held.dtype, torch.float32)
        target = (result.cond.to(wide) - scale * held.to(wide)) / (1 - scale)
        mask = result.own.view(-1, *[1] * (held.ndim - 1))
        return torch.where(mask, uncond, target.to(uncond.dtype))
