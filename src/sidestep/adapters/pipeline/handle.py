"""`sidestep.guide`: a rule put on a diffusers pipeline, and everything put back afterwards."""

import inspect
import threading
import warnings
import weakref
from types import TracebackType
from typing import Any

from sidestep import registry
from sidestep.adapters.pipeline.batched import Batched
from sidestep.adapters.pipeline.calling import calling
from sidestep.adapters.pipeline.calls import Call
from sidestep.adapters.pipeline.hooks import Hooked
from sidestep.adapters.pipeline.layouts import Layout, layout_of
from sidestep.adapters.pipeline.separate import Separate
from sidestep.errors import SidestepError, SidestepWarning
from sidestep.guidance.base import Rule
from sidestep.sampling.trace import Trace

NETWORKS = ("unet", "transformer", "transformer_2")


def guide(
    pipe: Any,
    rule: str | Rule[Any],
    *,
    strict: bool = True,
    skip: bool = True,
    layout: Layout | None = None,
) -> "Guide":
    """Guide every call of a diffusers pipeline by a rule, until the handle is removed.

    `rule` is a rule or its name ("static", "dynamic", "constant"). Each sample of a batch has its
    own transition. A scale that the rule leaves open (`after=None`) is the pipeline's own, by its
    own formula: such a sample comes out bit for bit as without the rule from there on.

    `skip=False` computes every row, also where the rule needs only one prediction. `strict=False`
    warns where guidance cannot act (a network was replaced, or answers without being called) and
    lets the pipeline go on unguided; `strict=True` raises. `layout` says how a pipeline class that
    is not known asks its network.

    Usable as a context manager, which removes it at the end. The pipeline holds the handle, so it
    need not be kept; `handle_of(pipe)` finds it again. Only calls of this very pipeline are guided,
    not those of another that shares its networks.

    Raises SidestepError for a pipeline that cannot be guided or is guided already.
    """
    if handle_of(pipe) is not None:
        raise SidestepError(
            f"this {type(pipe).__name__} is guided already, and two rules cannot both decide; "
            "leave the first `with` block or call remove() on its handle first. The handle is "
            "sidestep.adapters.pipeline.handle_of(pipe)"
        )
    found, note = (layout, None) if layout is not None else layout_of(pipe)
    if note is not None:
        warnings.warn(note, SidestepWarning, stacklevel=2)
    return Guide(pipe, _rule(rule), found, strict=strict, skip=skip)


def handle_of(pipe: Any) -> "Guide | None":
    """The handle of a pipeline that is guided, None for any other."""
    handle: Guide | None = getattr(type(pipe), "_sidestep_guide", None)
    return handle


class Guide:
    """A rule on a pipeline: the trace of its last generation, and the way back."""

    def __init__(
        self, pipe: Any, rule: Rule[Any], layout: Layout, *, strict: bool, skip: bool
    ) -> None:
        """Put the rule on; see `guide`."""
        names = [n for n in NETWORKS if hasattr(getattr(pipe, n, None), "register_forward_hook")]
        if not names or not hasattr(pipe, "scheduler"):
            raise SidestepError(
                f"{type(pipe).__name__} has no scheduler and no torch network under the names "
                f"{', '.join(NETWORKS)}; sidestep.guide takes a loaded diffusers pipeline"
            )
        self.rule, self.layout = rule, layout
        self._strict, self._skip = strict, skip
        self._pipe = weakref.ref(pipe)
        self._kind = type(pipe)
        self._local = threading.local()
        self._running = threading.Lock()
        self._call: Call | None = None
        self._told: set[str] = set()
        self._hooked = {n: Hooked(getattr(pipe, n), n, self._current) for n in names}
        extra = getattr(pipe, "controlnet", None)
        if layout.calls == "batched" and type(extra).__name__ == "ControlNetModel":
            self._control: Hooked | None = Hooked(extra, "controlnet", self._current)
        else:
            self._control = None
        parts = [*self._hooked.values(), *([self._control] if self._control else [])]
        # Networks outlive a pipeline that shares them: they are put back when it goes.
        self._finalizer = weakref.finalize(pipe, _take_off, parts)
        pipe.__class__ = calling(self._kind, self.run, "_sidestep_guide", self)

    @property
    def trace(self) -> Trace:
        """The trace of the last generation, or of the one under way so far.

        `scale` is what was applied, the pipeline's own scale included; NaN where that is no number.
        Raises SidestepError before the first one.
        """
        generation = self._call.generation if self._call is not None else None
        if generation is None or not generation.stepper.steps:
            raise SidestepError(
                "there is no trace yet: the pipeline has made no guided generation. Call it "
                "with a guidance scale at which it guides"
            )
        return generation.trace()

    def remove(self) -> None:
        """Put everything back as it was; a second time does nothing."""
        if self._finalizer.detach() is None:
            return
        _take_off([*self._hooked.values(), *([self._control] if self._control else [])])
        pipe = self._pipe()
        if pipe is not None and handle_of(pipe) is self:
            pipe.__class__ = self._kind

    def __enter__(self) -> "Guide":
        """The handle itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove, and say so if guidance could not act in the block."""
        pipe = self._pipe()
        try:
            if kind is None and pipe is not None:
                self._check_networks(pipe)
                if self._call is None:
                    self._tell(
                        f"the {self._kind.__name__} was not called while it was guided; only calls "
                        "of this very pipeline are guided, not of another with the same networks"
                    )
        finally:
            self.remove()

    def _current(self) -> Call | None:
        """The pipeline call that this thread is in."""
        return getattr(self._local, "call", None)

    def run(self, pipe: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The pipeline's own call, guided."""
        original = self._kind.__call__
        if self._pipe() is not pipe:
            return original(pipe, *args, **kwargs)
        if not self._running.acquire(blocking=False):
            raise SidestepError(
                f"this {self._kind.__name__} is in the middle of a call, and its scheduler can "
                "count the steps of one only; give each thread a pipeline of its own, for example "
                f"{self._kind.__name__}.from_pipe(pipe), which shares the weights, with a "
                "scheduler of its own"
            )
        try:
            self._check_networks(pipe)
            kind = Batched if self.layout.calls == "batched" else Separate
            bound = inspect.signature(original).bind(pipe, *args, **kwargs)
            bound.apply_defaults()
            self._call = call = kind(pipe, self.layout, self.rule, bound.arguments, self._skip)
            self._local.call = call
            result = original(pipe, *args, **kwargs)
            call.finish()
            self._check(call)
            return result
        finally:
            self._local.call = None
            if self._call is not None:
                self._call.close()
            self._running.release()

    def _check_networks(self, pipe: Any) -> None:
        """Say so if a network of the pipeline is not the one that was hooked."""
        for name, hooked in self._hooked.items():
            now = getattr(pipe, name, None)
            if now is not None and not hooked.is_on(now):
                self._fail(
                    f"pipe.{name} was replaced after sidestep.guide, so guidance cannot act on it; "
                    "call remove() and guide the pipeline again"
                )

    def _check(self, call: Call) -> None:
        """Say what went on in a call of the pipeline that has just returned."""
        name, generation = self._kind.__name__, call.generation
        if getattr(call.pipe, "_interrupt", False):
            return
        if call.network_calls == 0:
            self._fail(
                f"{name} returned without a call of its {' or '.join(self._hooked)} that guidance "
                "could see; something runs in its place, or the run had no steps"
            )
        elif generation is None or not generation.stepper.steps:
            self._tell(
                f"{name} made no unconditional prediction, so there was nothing to guide and its "
                f"pictures are its own; raise {self.layout.scale} (now "
                f"{call.arguments.get(self.layout.scale)}) above {1 - self.layout.shift:g}, and "
                "give a negative prompt "
                "where the pipeline asks for one"
            )
        elif (step := generation.broken()) is not None:
            raise SidestepError(
                f"the two predictions of step {step} differ by a number that is not finite (NaN or "
                "overflow), so no rule can read their gap; load the network in float32 or bfloat16"
            )
        else:
            trace = generation.trace()
            never = (trace.transition < 0).nonzero()[:, 0].tolist()
            if never:
                self._tell(
                    f"guidance never came on for samples {never} of {generation.batch}: they were "
                    "sampled at the scale before the transition to the end. If that is not "
                    "wanted, give the rule a later time or a fallback"
                )
            if call.unguided:
                self._tell(
                    f"{name} turned its guidance off in {call.unguided} of {call.network_calls} "
                    "network calls; there it followed the conditional prediction and no rule"
                )

    def _fail(self, sentence: str) -> None:
        """Raise if strict, else warn."""
        if self._strict:
            raise SidestepError(sentence)
        self._tell(sentence)

    def _tell(self, sentence: str) -> None:
        """Warn, once per handle."""
        if sentence not in self._told:
            self._told.add(sentence)
            warnings.warn(sentence, SidestepWarning, stacklevel=5)


def _take_off(parts: list[Hooked]) -> None:
    for part in parts:
        part.remove()


def _rule(rule: str | Rule[Any]) -> Rule[Any]:
    made = registry.get(rule, "rule").load()() if isinstance(rule, str) else rule
    if callable(getattr(made, "begin", None)):
        raise TypeError(
            f"{made!r} is a mitigation and no rule; give it to sidestep.mitigate, beside this"
        )
    if not isinstance(made, Rule):
        raise TypeError(
            f"rule is {made!r}; give a name such as 'dynamic' or a rule such as "
            "sidestep.Dynamic(); one of your own inherits from sidestep.guidance.Rule"
        )
    return made
