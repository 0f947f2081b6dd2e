"""Pipelines that ask for both predictions in one network call: `[uncond, cond]` or the reverse."""

from typing import Any, NamedTuple

import torch

from sidestep.adapters.pipeline import controlnet
from sidestep.adapters.pipeline.calls import Call, channels_of, complete, device_of, same
from sidestep.adapters.pipeline.generation import Collapsed
from sidestep.adapters.pipeline.rows import Arguments, answer, argument, select, spread
from sidestep.errors import SidestepError
from sidestep.guidance.base import BOTH, Needs

EXTRA = "skip_layers"  # the argument of a third call, which is neither of the two predictions


class Plan(NamedTuple):
    """The rows of one batched network call."""

    batch: int
    rows: int
    keep: list[int]
    made: list[Needs]
    network: str


class Rows(NamedTuple):
    """The rows of a ControlNet call."""

    all: int
    keep: list[int]


class Batched(Call):
    """One network call a step, with the rows of both predictions."""

    plan: Plan | None = None
    control: Rows | None = None
    network: Any = None  # the module that was called last
    last: Collapsed | None = None  # for a third call in the step

    def before(self, module: Any, network: str, call: Arguments) -> Arguments | None:
        """The arguments to use instead, None for those that came."""
        if network == "controlnet":
            found = controlnet.before(self, module, self.network, call, self._kept)
            self.control = found and Rows(len(argument(self.names(module), call)), found[1])
            return found and found[0]
        self.plan, self.network, names = None, module, self.names(module)
        if argument(names, call, EXTRA) is not None:
            return None
        self.network_calls += 1
        if not self.wants_guidance():
            self.unguided += 1
            return None
        sample = argument(names, call)
        rows = len(sample)
        groups = 2 + (self.layout.perturbed and self.pipe.do_perturbed_attention_guidance)
        batch = rows // groups
        if rows % groups:
            raise SidestepError(
                f"{type(self.pipe).__name__} calls its network with {rows} rows, which are not "
                f"{groups} equal groups, so its two predictions cannot be told apart; a callback "
                "or another extension may have changed the batch: remove it, or guide without it"
            )
        if self.begins(batch):
            if not same(sample[:batch], sample[batch : 2 * batch]):
                raise SidestepError(
                    f"{type(self.pipe).__name__} gives the two halves of its batch different "
                    "latents, so they are not an unconditional and a conditional half; this way "
                    "of calling it cannot be guided"
                )
            self.open(batch, device_of(sample))
        needs = self.step(module, call)
        if not self.can_skip(module) or groups > 2:
            needs = [BOTH] * batch
        keep = [*self._kept(needs), *range(2 * batch, rows)]
        self.plan = Plan(batch, rows, keep, needs, network)
        return select(names, call, rows, keep) if len(keep) < rows else None

    def after(
        self, module: Any, network: str, call: Arguments, output: Any, skipped: bool = False
    ) -> Any:
        """The answer to give instead, None for the network's own."""
        if network == "controlnet":
            rows = self.control
            return rows and controlnet.after(output, rows.all, rows.keep)
        plan, generation = self.plan, self.generation
        if plan is None:
            extra = argument(self.names(module), call, EXTRA) is not None
            return self._extra(output) if extra else None
        assert generation is not None
        self.plan = None
        tensor, put = answer(output)
        full = tensor if len(plan.keep) == plan.rows else spread(tensor, plan.rows, plan.keep)
        at_uncond, at_cond = self._groups(plan.batch)
        uncond = full[at_uncond : at_uncond + plan.batch]
        cond = full[at_cond : at_cond + plan.batch]
        uncond, cond = complete(uncond, cond, plan.made)
        channels = channels_of(tensor, argument(self.names(module), call))
        scale = self.scale(plan.network)
        self.last = generation.collapse(uncond, cond, plan.made, scale, channels)
        parts = [self.last.cond, self.last.uncond]
        parts = parts if self.layout.cond_first else parts[::-1]
        for first in range(2 * plan.batch, plan.rows, plan.batch):
            group = full[first : first + plan.batch]
            mask = self.last.own.view(-1, *[1] * (group.ndim - 1))
            parts.append(torch.where(mask, group, self.last.cond))
        return put(torch.cat(parts))

    def finish(self) -> None:
        """Each call was answered at once."""

    def _groups(self, batch: int) -> tuple[int, int]:
        """Where the unconditional and the conditional rows begin."""
        return (batch, 0) if self.layout.cond_first else (0, batch)

    def _kept(self, needs: list[Needs]) -> list[int]:
        """The rows that are needed of a batch of both predictions."""
        uncond, cond = self._groups(len(needs))
        return sorted(
            [uncond + i for i, n in enumerate(needs) if n.uncond]
            + [cond + i for i, n in enumerate(needs) if n.cond]
        )

    def _extra(self, output: Any) -> Any:
        """A third prediction that the pipeline subtracts from the conditional one: the same g."""
        if self.last is None:
            return None
        tensor, put = answer(output)
        mask = self.last.own.view(-1, *[1] * (tensor.ndim - 1))
        return put(torch.where(mask, tensor, self.last.cond))
