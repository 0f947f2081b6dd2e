"""`sidestep.mitigate`: mitigations inside a diffusers pipeline, and everything put back afterwards.

The pipeline keeps its loop. Four of its parts are listened to during its call: `encode_prompt`
(prompts and embeddings), `prepare_latents` (where the mitigations begin, and may give it another
first noise), the UNet, whose answers come from the changed denoiser, and `scheduler.step`.
"""

import functools
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any

import torch

from sidestep import registry
from sidestep.adapters.conditioned import ConditionedUNet
from sidestep.adapters.levels import Clock
from sidestep.adapters.pipeline.calling import calling
from sidestep.adapters.stable_diffusion import StableDiffusion
from sidestep.errors import SidestepError
from sidestep.guidance.base import Needs, Rule
from sidestep.guidance.denoiser import Level
from sidestep.mitigations import Mitigation, Outcome, Start, Text, Unfit, begin
from sidestep.mitigations.base import Step
from sidestep.rng import image_seed

CLASSES = ("StableDiffusionPipeline",)
MARK = "_sidestep_mitigate"
# What a pipeline may tell its UNet beside latents, time and embeddings; ConditionedUNet does not.
UNHEARD = ("timestep_cond", "cross_attention_kwargs", "added_cond_kwargs")


def mitigate(pipe: Any, *mitigations: Mitigation, seed: int | Sequence[int] = 0) -> "Mitigate":
    """Change every call of a StableDiffusionPipeline by mitigations, until the handle is removed.

    They begin in the order given. `seed` is where their randomness comes from: a number, of which
    every sample of a call gets a seed of its own, or one number per sample. Usable as a context
    manager, which removes it at the end. Works beside `sidestep.guide`, which then sees the changed
    predictions.

    Raises Unfit for another class of pipeline, and when it is called for what a mitigation needs
    and the call does not have, such as prompts, or for what would not reach the network under
    mitigations, such as image prompts; TypeError for what is no mitigation and for a seed that is
    no whole number.
    """
    name = type(pipe).__name__
    if name not in CLASSES:
        raise Unfit(
            f"{name} cannot be mitigated yet; known is {', '.join(CLASSES)}. In a loop of your own "
            "every mitigation works on a denoiser, see docs/mitigations.md"
        )
    if getattr(type(pipe), MARK, None) is not None:
        raise SidestepError(
            f"this {name} is mitigated already; leave the first `with` block, or give all "
            "mitigations to one call of sidestep.mitigate"
        )
    if not mitigations:
        raise ValueError("there is no mitigation; give at least one")
    for mitigation in mitigations:
        if isinstance(mitigation, type) or not callable(getattr(mitigation, "begin", None)):
            raise TypeError(_no_mitigation(mitigation))
    for one in [seed] if isinstance(seed, int) else seed if isinstance(seed, Sequence) else [seed]:
        if not isinstance(one, int):
            raise TypeError(
                f"seed is {seed!r}; give a whole number, or a list of one for each sample"
            )
    return Mitigate(pipe, mitigations, seed)


def _no_mitigation(given: Any) -> str:
    known = {e.name: e.code.replace(":", ".") for e in registry.entries("mitigation")}
    if isinstance(given, Rule):
        return f"{type(given).__name__} is a rule; give it to sidestep.guide beside this"
    if isinstance(given, str) and given in known:
        return f"{given!r} is the name of a mitigation; give the object, {known[given]}(...)"
    return (
        f"{given!r} is no mitigation; give objects such as "
        "sidestep.mitigations.perturbation.EmbeddingNoise(0.5), one argument for each"
    )


class Mitigate:
    """Mitigations on a pipeline: what they did in its last call, and the way back."""

    def __init__(
        self, pipe: Any, mitigations: Sequence[Mitigation], seed: int | Sequence[int]
    ) -> None:
        """Put them on; see `mitigate`."""
        self._pipe, self._kind = pipe, type(pipe)
        self._mitigations, self._seed = tuple(mitigations), seed
        self.outcomes: tuple[Outcome, ...] = ()  # of the last call
        pipe.__class__ = calling(self._kind, self.run, MARK, self)

    def remove(self) -> None:
        """Put the pipeline's class back; a second time does nothing."""
        if getattr(type(self._pipe), MARK, None) is self:
            self._pipe.__class__ = self._kind

    def __enter__(self) -> "Mitigate":
        """The handle itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove."""
        self.remove()

    def run(self, pipe: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The pipeline's own call, mitigated."""
        with _Call(pipe, self._mitigations, self._seed).listening() as call:
            result = self._kind.__call__(pipe, *args, **kwargs)
        self.outcomes = call.outcomes
        return result


class _Model:
    """The pipeline's text encoder and decoder, with its negative prompts."""

    def __init__(self, pipe: Any, against: Sequence[str]) -> None:
        self.stable, self._against = StableDiffusion(pipe), against
        self.vocabulary, self.pads_with_end = self.stable.vocabulary, self.stable.pads_with_end
        self.pictures = self.stable.pictures

    def embed(self, prompts: Sequence[str], pad: str | None = None) -> Text:
        # Prompts that are not those of the batch, such as captions of references or the rewording
        # of some of its samples, have no negative prompt each.
        fits = len(self._against) in (1, len(prompts))
        return self.stable.embed(prompts, pad, self._against if fits else None)


class _Call:
    """One call of a pipeline: what has passed between it and its parts so far."""

    def __init__(
        self, pipe: Any, mitigations: Sequence[Mitigation], seed: int | Sequence[int]
    ) -> None:
        self.pipe, self.mitigations, self.seed = pipe, mitigations, seed
        self.forward = pipe.unet.forward
        self.outcomes: tuple[Outcome, ...] = ()
        self.start: Start | None = None
        self.level: Level | None = None

    @contextmanager
    def listening(self) -> Iterator["_Call"]:
        """Stand between the pipeline and its four parts inside the block."""
        pipe = self.pipe
        with ExitStack() as stack:
            for owner, name, between in (
                (pipe, "encode_prompt", self._encode),
                (pipe, "prepare_latents", self._begin),
                (pipe.unet, "forward", self._answer),
                (pipe.scheduler, "step", self._step),
            ):
                stack.enter_context(_standing(owner, name, between))
            yield self

    def _encode(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        bound = inspect.signature(original).bind(*args, **kwargs)
        bound.apply_defaults()
        given, each = bound.arguments["prompt"], bound.arguments["num_images_per_prompt"]
        if bound.arguments["clip_skip"] is not None:
            raise Unfit(
                "the pipeline was given clip_skip, and mitigations that change prompts know the "
                "last layer of its text encoder only; leave it out"
            )
        if given is None:
            raise Unfit(
                "the pipeline was given prompt_embeds, and where a prompt ends cannot be seen in "
                "them; give it the prompts"
            )
        made = original(*args, **kwargs)
        self.prompts = tuple(p for p in _listed(given) for _ in range(each))
        against = _listed(bound.arguments["negative_prompt"] or "")
        self.model = _Model(
            self.pipe, [a for a in against for _ in range(each)] if len(against) > 1 else against
        )
        cond, uncond = made
        text = self.model.embed(self.prompts)
        # Without guidance the pipeline has no unconditional branch; a mitigation may ask for it.
        self.text = text._replace(cond=cond, uncond=text.uncond if uncond is None else uncond)
        return made

    def _begin(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        latents, pipe = original(*args, **kwargs), self.pipe
        self.clock = Clock(pipe.scheduler)
        self.levels = tuple(self._level(i) for i in range(len(self.clock.values)))
        kind, spread = self.model.stable.prediction_type, float(pipe.scheduler.init_noise_sigma)
        start = Start(
            denoiser=ConditionedUNet(pipe.unet, self.forward, kind, self.text),
            x=latents.float() / spread,
            levels=self.levels,
            seeds=self._seeds(len(latents)),
            prompts=self.prompts,
            model=self.model,
            scale=float(pipe.guidance_scale),
            solver=type(pipe.scheduler).__name__,
            network=self.model.stable.name,
        )
        self.start = begin(self.mitigations, start)
        self.outcomes = self.start.outcomes
        if self.start.after and spread != 1:
            raise Unfit(
                f"{type(pipe.scheduler).__name__} scales its latents by their noise, and hooks "
                "after a step are defined on latents that are not scaled; give the pipeline "
                "DPMSolverMultistepScheduler or DDIMScheduler"
            )
        changed = self.start.x is not start.x
        return (self.start.x * spread).to(latents.dtype) if changed else latents

    def _seeds(self, batch: int) -> tuple[int, ...]:
        if isinstance(self.seed, int):
            return tuple(image_seed(self.seed, "", number) for number in range(batch))
        if len(self.seed) != batch:
            raise ValueError(
                f"seed holds {len(self.seed)} numbers for a batch of {batch}; give one per sample"
            )
        return tuple(self.seed)

    def _level(self, index: int) -> Level:
        foreign = self.clock.at(index)
        sigma = 1 / math.sqrt(1 + foreign.snr)
        timestep = self.clock.values[index]
        timestep = int(timestep) if timestep.is_integer() else timestep
        return Level(timestep, foreign.time, math.sqrt(1 - sigma**2), sigma)

    def _answer(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self.start is None:
            return original(*args, **kwargs)
        if lost := [name for name in UNHEARD if kwargs.get(name) is not None]:
            raise Unfit(
                f"the pipeline gives its network {' and '.join(lost)}, which mitigations do not "
                "pass on; leave out image prompts, cross_attention_kwargs (fuse a LoRA with "
                "pipe.fuse_lora instead) and guidance embeddings"
            )
        given, timestep = args[:2]
        self.index = self.clock.position(timestep)
        level, batch = self.levels[self.index], len(self.start.x)
        needs = Needs(uncond=len(given) == 2 * batch)
        made = self.start.denoiser(given[-batch:].float(), level, needs)
        noise = torch.cat([made.uncond, made.cond]) if needs.uncond else made.cond
        if self.model.stable.prediction_type == "v_prediction":
            noise = (noise - level.sigma * given) / level.alpha
        return (noise.to(given.dtype),)

    def _step(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        made = original(*args, **kwargs)
        if self.start is None or not self.start.after:
            return made
        output, _, x = args
        level = self.levels[self.index]
        after = self.levels[self.index + 1] if self.index + 1 < len(self.levels) else None
        noise = output.float()
        if self.model.stable.prediction_type == "v_prediction":
            noise = level.alpha * noise + level.sigma * x
        latent = made[0]
        for hook in self.start.after:
            latent = hook(Step(noise, x.float(), latent.float(), level, after)).to(latent.dtype)
        return (latent, *made[1:])


def _listed(value: str | Sequence[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


@contextmanager
def _standing(owner: Any, name: str, between: Callable[..., Any]) -> Iterator[None]:
    """Call `between(original, ...)` wherever the owner's method of that name is called."""
    own, original = vars(owner).get(name), getattr(owner, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        return between(original, *args, **kwargs)

    vars(owner)[name] = functools.update_wrapper(call, original)
    try:
        yield
    finally:
        if own is None:
            del vars(owner)[name]
        else:
            vars(owner)[name] = own
