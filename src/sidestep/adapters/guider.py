"""Any rule as a guider of diffusers: modular pipelines, and class pipelines that own a guider.

The guider interface of diffusers is experimental; this is the only file that touches it.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sidestep import registry
from sidestep.adapters.levels import Clock
from sidestep.adapters.stepper import Stepper
from sidestep.errors import MissingExtra, SidestepError, SidestepWarning
from sidestep.guidance import Constant, Rule
from sidestep.guidance.base import BOTH
from sidestep.guidance.config import as_dict, from_dict
from sidestep.sampling.trace import Trace

try:
    from diffusers.configuration_utils import register_to_config
    from diffusers.guiders.guider_utils import BaseGuidance, GuiderOutput, rescale_noise_cfg
except ImportError as error:
    raise MissingExtra(
        "diffusers", "Install it with: pip install 'sidestep[diffusers]'", "sidestep.Guider"
    ) from error

CONDITIONAL_ONLY = Constant(1.0)


class Guider(BaseGuidance):  # type: ignore[misc]  # diffusers ships no types
    """Guidance by a rule, per sample, in pipelines that take a guider.

        modular.update_components(
            guider=sidestep.Guider(sidestep.Dynamic(), 7.5, scheduler=modular.scheduler)
        )

    `rule` is a rule, its name, or the dictionary of a saved configuration. Where the rule leaves
    its scale open it is `guidance_scale`, in `uncond + scale * (cond - uncond)`.
    `guidance_rescale` in [0, 1] is diffusers'. `scheduler` is the pipeline's own: a guider is told
    a timestep, whose noise level only the scheduler knows; it is no part of a saved configuration,
    so pass it to `from_pretrained` too.

    Passes that the rule does not need are not run; a pass is one batch, so while some sample needs
    it, all run it. `trace` tells what happened. A Wan 2.2 pipeline has two guiders for one
    generation: give it the same object twice.

    Raises SidestepError for a rule that does not exist and ValueError for values out of range.
    """

    _input_predictions = ["pred_cond", "pred_uncond"]  # noqa: RUF012  # as diffusers declares it

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        rule: Rule[Any] | str | Mapping[str, Any],
        guidance_scale: float = 7.5,
        guidance_rescale: float = 0.0,
        scheduler: Any = None,
        enabled: bool = True,
    ) -> None:
        super().__init__(enabled=enabled)
        if not 0 <= guidance_rescale <= 1:
            raise ValueError(f"guidance_rescale is {guidance_rescale}; it must lie in [0, 1]")
        self.rule = _rule(rule)
        self.guidance_scale = guidance_scale
        self.guidance_rescale = guidance_rescale
        self.scheduler = scheduler
        self._run: Stepper | None = None
        self._needs = BOTH  # of the evaluation that is coming
        self._clock: Clock | None = None  # of one generation
        self._position = -1  # where in the clock's timesteps the loop is
        self._warned = False
        # A configuration holds plain values. diffusers counts what was passed by position as left
        # at its default, and would drop it in `new()`.
        self.register_to_config(rule=as_dict(self.rule), scheduler=None, _use_default_values=[])

    def new(self, **kwargs: Any) -> "Guider":
        """A fresh guider with the same settings and scheduler, or with some replaced."""
        made: Guider = super().new(**{"scheduler": self.scheduler} | kwargs)
        return made

    @property
    def trace(self) -> Trace:
        """Gap, scale, transition and evaluations of the last generation, (T, B) and (B,).

        Raises SidestepError before the first one.
        """
        if self._run is None or not self._run.steps:
            raise SidestepError("this guider has guided nothing yet; call the pipeline first")
        return self._run.trace()

    @property
    def num_conditions(self) -> int:
        """2, or 1 where guidance is off.

        Constant over a generation, even where a pass is skipped: pipelines read it beforehand to
        decide whether to prepare the negative prompt.
        """
        return 1 if self._active() == CONDITIONAL_ONLY else 2

    @property
    def is_conditional(self) -> bool:
        """Whether the pass being prepared is the conditional one."""
        return bool(self._passes()[max(self._count_prepared, 1) - 1] == "pred_cond")

    def set_state(self, step: int, num_inference_steps: int, timestep: Tensor) -> None:
        """Go on to a step of the pipeline's loop; step 0 and a new time grid begin a generation.

        Raises SidestepError if the scheduler is not known or is not the one of this loop.
        """
        super().set_state(step, num_inference_steps, timestep)
        if self.scheduler is None:
            raise SidestepError(
                "this guider does not know the scheduler, so it cannot tell the noise level; "
                "set guider.scheduler = pipe.scheduler"
            )
        clock = self._clock
        # A new object of timesteps is a new generation.
        if clock is None or step == 0 or clock.timesteps is not self.scheduler.timesteps:
            clock = self._clock = Clock(self.scheduler)
            self._run, self._position = Stepper(self._active()), -1
        assert self._run is not None
        self._position = self._find(clock.values, float(timestep))
        time = self._run.begin(clock.at(self._position), clock.held())
        self._needs = self._run.rule.needs(time)

    def prepare_inputs(self, data: Mapping[str, Any]) -> list[Any]:
        """The inputs of the passes this step needs; a tuple holds (conditional, unconditional)."""
        self._refuse_without_negative(list(data.values()))
        return self._batches(lambda index, name: self._prepare_batch(data, index, name))

    def prepare_inputs_from_block_state(
        self, data: Any, input_fields: Mapping[str, str | tuple[str, str]]
    ) -> list[Any]:
        """The same, where the inputs are fields of a block state."""
        found = [
            tuple(getattr(data, n, None) for n in names) if isinstance(names, tuple) else None
            for names in input_fields.values()
        ]
        self._refuse_without_negative(found)
        return self._batches(
            lambda index, name: self._prepare_batch_from_block_state(
                input_fields, data, index, name
            )
        )

    def __call__(self, data: list[Any]) -> Any:
        """Combine the predictions of the passes that were made."""
        return self.forward(**{getattr(d, self._identifier_key): d.noise_pred for d in data})

    def forward(self, pred_cond: Tensor | None = None, pred_uncond: Tensor | None = None) -> Any:
        """The guided output (B, *S), in the model's units.

        Where a sample is held back, the conditional prediction that the pipeline gets to see is the
        guided one too: pipelines that renormalise by it then change nothing.
        """
        cond = pred_uncond if pred_cond is None else pred_cond
        uncond = pred_cond if pred_uncond is None else pred_uncond
        if cond is None or uncond is None or self._run is None:
            raise SidestepError(
                "the guider got no prediction; a loop must call set_state(), run the network on "
                "what prepare_inputs() returns and pass the answers"
            )
        guided = self._run.decide(uncond, cond, [self._needs] * len(cond))
        shape = (-1, *[1] * (cond.ndim - 1))
        pred, on = cond, guided.on.view(shape)
        if cond is not uncond:
            # Multiplied in float32 and rounded once, as diffusers does with a Python number.
            shift = (guided.scale.view(shape) * (cond - uncond)).to(cond.dtype)
            pred = uncond + shift
            cond = torch.where(on, cond, pred)
        if self.guidance_rescale > 0:
            pred = torch.where(on, rescale_noise_cfg(pred, cond, self.guidance_rescale), pred)
        self._finish()
        return GuiderOutput(pred=pred, pred_cond=cond, pred_uncond=uncond)

    def _active(self) -> Rule[Any]:
        """The rule that guides: the given one, or plain guidance where there is none to hold."""
        if not self._enabled:
            return CONDITIONAL_ONLY
        rule = self.rule.with_scale(self.guidance_scale)
        after = getattr(rule, "after", None)
        if isinstance(after, int | float) and after <= 1:
            if not self._warned:
                self._warned = True
                _warn(
                    f"the guidance scale is {after}: at 1 and below there is no guidance to hold "
                    "back, so the rule does nothing; set guidance_scale above 1"
                )
            return Constant(float(after))
        return rule

    def _find(self, times: Sequence[float], timestep: float) -> int:
        """The place of a timestep in the grid, after the last one: grids may repeat a value."""
        for index in range(self._position + 1, len(times)):
            if times[index] == timestep:
                return index
        raise SidestepError(
            f"the pipeline is at timestep {timestep}, which does not follow in the "
            f"{type(self.scheduler).__name__} that this guider was given; if the pipeline has "
            "another scheduler, set guider.scheduler = pipe.scheduler"
        )

    def _passes(self) -> list[str]:
        needs = self._needs[::-1]
        return [n for n, made in zip(self._input_predictions, needs, strict=True) if made]

    def _batches(self, prepare: Callable[[int, str], Any]) -> list[Any]:
        return [prepare(self._input_predictions.index(name), name) for name in self._passes()]

    def _refuse_without_negative(self, inputs: list[Any]) -> None:
        """An unconditional pass whose inputs are all missing would fail somewhere inside."""
        pairs = [pair for pair in inputs if isinstance(pair, tuple) and pair[0] is not None]
        if "pred_uncond" in self._passes() and all(pair[1] is None for pair in pairs):
            raise SidestepError(
                "the pipeline has no negative branch in this call, so there is no unconditional "
                "prediction to hold guidance back with; pass negative_prompt_embeds (an empty "
                "prompt's), or a negative_prompt"
            )

    def _finish(self) -> None:
        """After the last step say what the trace would show to whoever looks."""
        assert self._clock is not None
        last = self._position == len(self._clock.values) - 1 or (
            self.scheduler.order == 1 and self._step + 1 == self._num_inference_steps
        )
        if not last:
            return
        assert self._run is not None
        trace, broken = self.trace, self._run.lost().any(dim=0)
        if broken.any():
            _warn(
                f"the network's predictions were not finite for {int(broken.sum())} of "
                f"{len(broken)} samples (see trace.gap), so their transition means nothing; check "
                "the model and its precision"
            )
        never = trace.transition < 0
        if never.any():
            _warn(
                f"guidance never came on for {int(never.sum())} of {len(never)} samples (see "
                "trace.transition); give the rule a fallback or a transition time that the "
                "schedule reaches"
            )


def _rule(given: Rule[Any] | str | Mapping[str, Any]) -> Rule[Any]:
    if isinstance(given, str):
        rule: Rule[Any] = registry.get(given, "rule").load()()
        return rule
    return from_dict(given) if isinstance(given, Mapping) else given


def _warn(sentence: str) -> None:
    # Level 5 is the pipeline's file, where the reader can do something about it.
    warnings.warn(sentence, SidestepWarning, stacklevel=5)
