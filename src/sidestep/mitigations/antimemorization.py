"""AMG: guidance away from the nearest of one's own training pictures, at each step it is near.

With s0 the scale of guidance, x0 the clean estimate of the guided noise, decoded to a picture,
n the training picture nearest to it and q their similarity; when q > lambda(t):

    s1 = clip(c1 q, 0, s0 - 1)         away from what the prompt insists on
    s2 = clip(c2 q, 0, s0 - s1 - 1)    away from the caption of n
    guided = uncond + (s0 - s1) (cond - uncond) - s2 (eps(x, caption of n) - uncond)
             + c3 sigma grad_x q       away from n itself

    lambda(t) = 0.3 + 0.1 exp(-5 t)    t in [0, 1], 1 = noise
    c1 = 6.5 / 0.5,  c2 = (s0 - 1 - s1) / 0.3

The gradient goes through decoder and similarity, not through the network.

Source: Chen, Liu and Xu, Towards Memorization-Free Diffusion Models, CVPR 2024, arXiv:2404.00922,
with the constants of its Stable Diffusion script. That script makes c3 grow with time by a factor
of some hundreds; here it is the formula's one number.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from sidestep.guidance.base import BOTH, Needs, Prediction
from sidestep.guidance.denoiser import Level
from sidestep.mitigations.base import (
    Start,
    Unfit,
    Wrapped,
    check_finite,
    check_gradients,
    scaled,
)
from sidestep.mitigations.descent import times
from sidestep.mitigations.text import Text

# Pictures (B, 3, H, W) in [-1, 1] to features (B, F) of length 1; gradients flow. The similarity of
# two pictures is the dot product of their features.
Embed = Callable[[Tensor], Tensor]


def pixels(pictures: Tensor) -> Tensor:
    """Mean-removed pixels of length 1: their dot product is the correlation, in [-1, 1]."""
    flat = pictures.flatten(1)
    return torch.nn.functional.normalize(flat - flat.mean(dim=1, keepdim=True), dim=1)


@dataclass(frozen=True, eq=False)
class References:
    """Training pictures to keep away from, their captions, and what makes two pictures similar.

    `pictures` (N, 3, H, W) in [-1, 1], of the size that the model makes unless `embed` takes any.
    `captions` are one per picture, or none: then the term of the caption falls away and a step
    costs no further evaluation.
    """

    pictures: Tensor = field(repr=False)
    captions: tuple[str, ...] = ()
    embed: Embed = field(default=pixels, repr=False)

    def __post_init__(self) -> None:
        """Refuse what are no pictures, and captions that are not one per picture."""
        shape = tuple(self.pictures.shape)
        if len(shape) != 4 or 0 in shape or not bool(self.pictures.isfinite().all()):
            raise ValueError(
                f"pictures have shape {shape} or hold nan or inf; give finite pictures of shape "
                "(N, 3, H, W), values in [-1, 1]"
            )
        if len(self.captions) not in (0, shape[0]):
            raise ValueError(
                f"{shape[0]} pictures came with {len(self.captions)} captions; give one per "
                "picture, or none"
            )

    @cached_property
    def features(self) -> Tensor:
        """Features of the references, (N, F)."""
        with torch.no_grad():
            return self.embed(self.pictures)

    def nearest(self, picture: Tensor) -> tuple[Tensor, int]:
        """Similarity to the nearest reference and its number, of one picture (1, 3, H, W)."""
        similarity = (self.embed(picture) @ self.features.to(picture).T)[0]
        number = int(similarity.argmax())
        return similarity[number], number


@dataclass(frozen=True)
class AntiMemorization:
    """Guide away from the nearest reference wherever similarity passes a threshold.

    `threshold` is the 0.3 of lambda; above 1 nothing ever passes it and guidance is plain. It
    belongs to the similarity: 0.3 is SSCD's, pixels need their own. `despecification` is c1,
    `deduplication` is c2 over (s0 - 1 - s1), `dissimilarity` is c3: the default is for latents of
    Stable Diffusion's size, smaller ones have larger gradients and need less. Without a model
    around the network the latents are taken for the pictures.

    A step costs one evaluation more for each sample that passes, if there are captions, and a
    passage backward through the decoder.

    The formula stands for the guidance scale of the run: a rule that withholds guidance withholds
    the formula too.
    """

    references: References
    threshold: float = 0.3
    despecification: float = 13.0
    deduplication: float = 10 / 3
    dissimilarity: float = 100.0

    name: ClassVar[str] = "anti-memorization"

    def __post_init__(self) -> None:
        """Refuse what are no references, and numbers that are not finite."""
        if not isinstance(self.references, References):
            raise ValueError(
                f"references is {self.references!r}; give References(pictures, captions)"
            )
        check_finite(
            threshold=self.threshold,
            despecification=self.despecification,
            deduplication=self.deduplication,
            dissimilarity=self.dissimilarity,
        )

    def begin(self, start: Start) -> Start:
        """The run with a denoiser that looks at its clean estimates.

        Raises ValueError at the guidance scale 0, Unfit for references that cannot be compared
        with the model's pictures and SidestepError under `torch.inference_mode`.
        """
        check_gradients(self.name)
        if start.scale == 0:
            raise ValueError(
                "the guidance scale of the run is 0, so there is no guidance to change; give Start "
                "the scale that the rule guides with"
            )
        decode = _as_they_are if start.model is None else start.model.pictures
        captions = self.references.captions
        text = start.text_model().embed(captions) if captions else None
        with torch.no_grad():
            made = decode(start.x[:1])
        self._check(made)
        inner = start.denoiser
        return replace(start, denoiser=_Away(inner, self, decode, start.scale, text)).done(  # type: ignore[arg-type]
            self.name
        )

    def _check(self, picture: Tensor) -> None:
        """Refuse references that cannot be compared with what the model makes."""
        known = self.references.features.shape[1]
        try:
            width = self.references.embed(picture).shape[1]
        except RuntimeError as error:
            raise Unfit(
                f"embed cannot take the model's pictures of shape {tuple(picture.shape[1:])} "
                f"({error}); give one that does"
            ) from error
        if width != known:
            raise Unfit(
                f"the model makes pictures of shape {tuple(picture.shape[1:])} and the references "
                f"are {tuple(self.references.pictures.shape[1:])}; scale the references to the "
                "model's size, or give an embed that takes any size"
            )


class _Near(NamedTuple):
    """What lies nearest to each of B clean estimates."""

    similarity: Tensor  # (B,)
    number: Tensor  # (B,) int64, of the reference
    slope: Tensor  # (B, *S) gradient of the similarity by x; 0 for who has not passed


@dataclass(frozen=True)
class _Away(Wrapped):
    """The denoiser that is guided away."""

    how: AntiMemorization
    decode: Embed
    scale: float
    captions: Text | None  # of the references

    def __call__(self, x: Tensor, level: Level, needs: Needs) -> Prediction:
        prediction = self.inner(x, level, needs)
        if needs != BOTH:
            return prediction
        how, sigma = self.how, level.sigma
        bound = how.threshold + 0.1 * math.exp(-5 * level.time)
        uncond, push = prediction.uncond, prediction.cond - prediction.uncond
        guided = uncond + self.scale * push
        near = self._near((x - sigma * guided) / level.alpha, bound)
        passed = near.similarity > bound
        rows = passed.nonzero()[:, 0]
        if len(rows) == 0:
            return prediction
        room = max(self.scale - 1, 0.0)
        less = (how.despecification * near.similarity).clamp(0, room)
        rest = room - less
        other = torch.minimum((how.deduplication * rest * near.similarity).clamp(min=0), rest)
        slope = near.slope / level.alpha
        wanted = guided - times(less, push) + how.dissimilarity * sigma * slope
        extra = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        if self.captions is not None:
            named = self._named(x[rows], level, rows, near.number[rows])
            wanted[rows] -= times(other[rows], named.cond - uncond[rows])
            extra[rows] += 1 + named.extra
        changed = scaled(prediction, wanted, self.scale, extra)
        mask = passed.view(-1, *[1] * (x.ndim - 1))
        return replace(changed, cond=torch.where(mask, changed.cond, prediction.cond))

    def _near(self, clean: Tensor, bound: float) -> _Near:
        """One sample at a time: a decoder's memory is the whole cost of this."""
        similarities, numbers, slopes = [], [], []
        for index in range(len(clean)):
            row = clean[index : index + 1].detach().clone().requires_grad_()
            with torch.enable_grad():
                similarity, number = self.how.references.nearest(self.decode(row))
            slope = torch.zeros_like(row)
            if similarity > bound:
                (slope,) = torch.autograd.grad(similarity, row)
            similarities.append(similarity.detach())
            numbers.append(number)
            slopes.append(slope)
        where = torch.tensor(numbers, device=clean.device)
        return _Near(torch.stack(similarities).to(clean.dtype), where, torch.cat(slopes))

    def _named(self, x: Tensor, level: Level, rows: Tensor, numbers: Tensor) -> Prediction:
        """The predictions for the captions of the nearest references."""
        assert self.captions is not None
        inner, captions = self.inner.select(rows), self.captions.select(numbers)
        text = captions._replace(uncond=inner.text.uncond)
        return inner.with_text(text)(x, level, Needs(uncond=False))


def _as_they_are(latents: Tensor) -> Tensor:
    return latents
