"""What a pipeline family is, the rows of a batch, and weights that leave nothing at zero."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


def seeded(label: str, row: int) -> torch.Generator:
    """A generator that depends on these two alone, on every machine."""
    return torch.Generator().manual_seed(zlib.crc32(f"{label}/{row}".encode()))


def normal(label: str, row: int, *shape: int) -> Tensor:
    """Standard normal numbers, float32: the same for the same label and row."""
    return torch.randn(*shape, generator=seeded(label, row))


@dataclass(frozen=True)
class Rows:
    """The samples of one call: their numbers, and which are to run unconditionally.

    Everything drawn here belongs to a row's number, so that a row is the same in every batch. A
    swapped position gets the negative input where the pipeline expects the positive one.
    """

    numbers: tuple[int, ...]
    swapped: frozenset[int]
    dtype: torch.dtype

    def negative(self, name: str, *shape: int) -> list[Tensor]:
        """The unconditional input of each row."""
        return [normal(f"not {name}", row, *shape).to(self.dtype) for row in self.numbers]

    def positive(self, name: str, *shape: int) -> list[Tensor]:
        """The conditional input of each row, or the negative one where it is swapped."""
        return [
            negative if place in self.swapped else normal(name, row, *shape).to(self.dtype)
            for place, (row, negative) in enumerate(
                zip(self.numbers, self.negative(name, *shape), strict=True)
            )
        ]

    def pair(self, name: str, *shape: int, size: float = 1.0) -> dict[str, Tensor]:
        """Arguments `name` and `negative_name`, (B, *shape), of standard deviation `size`."""
        return {
            name: size * torch.stack(self.positive(name, *shape)),
            f"negative_{name}": size * torch.stack(self.negative(name, *shape)),
        }

    def masks(self, name: str, tokens: int, dtype: torch.dtype = torch.long) -> dict[str, Tensor]:
        """Arguments `name` and `negative_name`, (B, tokens): ones, then zeros.

        The length of a row's mask is its own, and another one on the negative side: a mask that
        was left behind changes the result. None is full, since some pipelines drop full masks.
        """
        positive, negative = [], []
        for place, row in enumerate(self.numbers):
            unconditional = tokens - 1 - row % 2
            conditional = tokens - 3 - row % 3
            positive.append(unconditional if place in self.swapped else conditional)
            negative.append(unconditional)
        column = torch.arange(tokens)

        def ones(lengths: list[int]) -> Tensor:
            return (column < torch.tensor(lengths)[:, None]).to(dtype)

        return {name: ones(positive), f"negative_{name}": ones(negative)}

    def own(self, name: str, *shape: int) -> Tensor:
        """An input that has no negative side, such as the picture to start from: (B, *shape)."""
        return torch.stack([normal(name, row, *shape).to(self.dtype) for row in self.numbers])


def randomize(
    module: torch.nn.Module, label: str, *, draw: str = "", clock: float = 3.0, **louder: float
) -> None:
    """Fill every parameter from its own name and `label`, none with zeros.

    Models start adaLN gates, zero convolutions and output layers at zero: an untrained network
    would ignore its prompt. Matrices get standard deviation `1 / sqrt(inputs)`, vectors that scale
    stay around 1, biases around 0.

    What reads the time is `clock` times as strong, so that the gap between the predictions rises
    and falls on the way: a gap that only shrinks would leave nothing to find for a rule that waits
    for its minimum. Another `draw` is another network, chosen where the rows of a batch would
    otherwise turn at the same step. Further names, such as attn2=5, are parts of a parameter's name
    and its factor.
    """
    factors = {"time": clock, **louder}
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            drawn = normal(f"{label}{draw}.{name}", 0, *parameter.shape)
            if parameter.ndim >= 2:
                drawn /= parameter[0].numel() ** 0.5
                for part, factor in factors.items():
                    drawn *= factor if part in name else 1.0
            elif name.endswith("weight"):
                drawn = 1 + 0.2 * drawn
            else:
                drawn *= 0.2
            parameter.copy_(drawn)


def latents_of(pipe: Any, arguments: dict[str, Any]) -> Tensor:
    """Call the pipeline; its result before the decoder."""
    result: Tensor = pipe(**arguments, output_type="latent")[0]
    return result


@dataclass(frozen=True)
class Family:
    """A pipeline class with the smallest network of random weights that reacts to its prompt.

    Attributes:
        name: What the documentation and the tests call it.
        pipeline: Name of the diffusers class.
        denoisers: Attributes of the pipeline that hold the network, in the order of use.
        layout: "batched [u,c]" or "batched [c,u]" for one call with both halves, "separate" for a
            conditional call followed by an unconditional one.
        make: A new pipeline in float32 with `randomize`d weights.
        inputs: What the pipeline is called with for some rows, beside `settings`.
        conditioning: Arguments of the network's forward that differ between the two predictions.
            Empty where swapping them does not give the unconditional prediction.
        settings: Arguments that are the same for all rows.
        scale: The argument that holds the guidance scale.
        neutral: For pipelines whose swapped rows have to be sampled in a call of their own: the
            settings of that call. With a third prediction, or a control that only one of the two
            sees, equal inputs give equal predictions under these settings only.
        dtype: Float64 where the random network amplifies float32 rounding too much to compare.
        run: How to call the pipeline and get (B, ...) latents.
    """

    name: str
    pipeline: str
    denoisers: tuple[str, ...]
    layout: str
    make: Callable[[], Any]
    inputs: Callable[[Rows], dict[str, Any]]
    conditioning: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    scale: str = "guidance_scale"
    neutral: Mapping[str, Any] | None = None
    dtype: torch.dtype = torch.float32
    run: Callable[[Any, dict[str, Any]], Tensor] = latents_of

    def build(self, dtype: torch.dtype | None = None) -> Any:
        """A fresh pipeline, the same every time; the global random state stays as it is."""
        with torch.random.fork_rng(devices=[]):
            pipe = self.make()
        for component in pipe.components.values():
            if isinstance(component, torch.nn.Module):
                component.eval()  # as from_pretrained does; dropout would mix the rows' results
        pipe.set_progress_bar_config(disable=True)
        dtype = dtype or self.dtype
        # Diffusers warns about any cast, also of float32 to float32.
        return pipe if dtype == torch.float32 else pipe.to(dtype)

    def call(
        self,
        pipe: Any,
        rows: Sequence[int],
        *,
        steps: int,
        scale: float,
        swap: Sequence[int] | None = None,
    ) -> Tensor:
        """Sample these rows, (B, ...); positions in `swap` without their prompt, to the end.

        A swapped row gets its negative input on both sides: its predictions are equal, so that it
        is sampled unconditionally at any scale.
        """
        swapped = frozenset(swap or ())
        if not swapped <= set(range(len(rows))):
            raise ValueError(f"swap={swap} names positions outside a batch of {len(rows)}")
        arguments = {self.scale: scale, "num_inference_steps": steps}
        if self.neutral is None or not swapped:
            return self._call(pipe, rows, swapped, arguments)
        result: dict[int, Tensor] = {}
        for side, extra in ((False, {}), (True, self.neutral)):
            places = [place for place in range(len(rows)) if (place in swapped) is side]
            if places:
                numbers = [rows[place] for place in places]
                inside = frozenset(range(len(places)) if side else ())
                out = self._call(pipe, numbers, inside, {**arguments, **extra})
                result.update(zip(places, out, strict=True))
        return torch.stack([result[place] for place in range(len(rows))])

    def _call(
        self, pipe: Any, numbers: Sequence[int], swapped: frozenset[int], extra: Mapping[str, Any]
    ) -> Tensor:
        dtype = next(getattr(pipe, self.denoisers[0]).parameters()).dtype
        arguments = {
            **self.inputs(Rows(tuple(numbers), swapped, dtype)),
            **self.settings,
            **extra,
            # One generator per row: first noise and any noise of the scheduler are the row's own.
            "generator": [seeded("sampling", number) for number in numbers],
        }
        return self.run(pipe, arguments)
