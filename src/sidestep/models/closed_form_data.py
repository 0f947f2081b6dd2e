"""Small worlds for the closed-form models: emoji pictures, captions, targets, and what is a copy.

A world is a denoiser that is exact for some captioned pictures, and the answers to check its
samples against. It shows in seconds what a rule does where the basin of attraction is known to
exist, and known to have an exit or none.
"""

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sidestep.models.closed_form import Gaussian, Generalizer, Memorizer, SpikeAndSlab
from sidestep.models.embedded import drawings

SIDE = 16  # of a point's picture
# Root mean square of the difference per coordinate. Samples of a spike of variance 0.02 lie 0.14
# from its centre, those of a slab of variance 0.5 lie 0.7 from theirs.
NEAR = 0.35


class Points(NamedTuple):
    """N pictures of K captions as vectors of standard deviation 1."""

    pictures: Tensor  # (N, 3, 16, 16) float32
    caption: Tensor  # (N,) int64, index into names; rising
    names: tuple[str, ...]  # the K captions


class Shares(NamedTuple):
    """Of the samples of a world, the share in [0, 1] that is ..."""

    copies: float  # nearest to their target, and no further from it than NEAR
    on_prompt: float  # nearest to a picture that belongs to their prompt, target included


class World(NamedTuple):
    """A denoiser for B samples of N pictures, and what they are checked against."""

    denoiser: Memorizer | SpikeAndSlab | Generalizer
    pictures: Tensor  # (N, *S)
    target: Tensor  # (B,) int64, the memorized picture of each sample's prompt
    belongs: Tensor  # (B, N) bool, the picture belongs to the sample's prompt

    def shares(self, latents: Tensor) -> Shares:
        """Score clean latents (B, *S) by their nearest picture."""
        distance, nearest = torch.cdist(latents.flatten(1), self.pictures.flatten(1)).min(1)
        near = distance / latents[0].numel() ** 0.5 <= NEAR
        belongs = self.belongs.gather(1, nearest[:, None])
        return Shares(
            copies=float((near & (nearest == self.target)).double().mean()),
            on_prompt=float(belongs.double().mean()),
        )


def emoji_points(
    captions: int = 400, seed: int = 0, ground: Literal["white", "random"] = "white"
) -> Points:
    """Emoji drawings of some captions that have 5 to 7 each, as points.

    Each is laid on white, or on a colour of its own that no caption mentions, averaged to 16x16,
    mapped to [-1, 1] and divided by the standard deviation of all. `seed` picks captions and
    colours. Raises ValueError for more captions than there are.
    """
    rng = np.random.default_rng(seed)
    known = sorted(c for c, rows in drawings.by_caption().items() if 5 <= len(rows) <= 7)
    if not 1 <= captions <= len(known):
        raise ValueError(f"captions is {captions}; the drawings allow 1 to {len(known)}")
    names = tuple(known[i] for i in rng.permutation(len(known))[:captions])
    pictures, caption = [], []
    for index, name in enumerate(names):
        for drawing in drawings.by_caption()[name]:
            rgba = drawings.pixels(drawing.number) / 255
            colour = rng.uniform(size=3) if ground == "random" else np.ones(3)
            flat = rgba[..., :3] * rgba[..., 3:] + colour * (1 - rgba[..., 3:])
            blocks = flat.reshape(SIDE, drawings.SIDE // SIDE, SIDE, drawings.SIDE // SIDE, 3)
            pictures.append(2 * blocks.mean(axis=(1, 3)).transpose(2, 0, 1) - 1)
            caption.append(index)
    stack = np.stack(pictures)
    return Points(torch.from_numpy(stack / stack.std()).float(), torch.tensor(caption), names)


def memorizer_world(
    points: Points, *, targets: int = 40, draws: int = 2, weight: float = 100, exits: bool = True
) -> World:
    """A perfect memorizer: the first picture of each of the first `targets` captions is the target.

    Under its caption the target weighs `weight` and the caption's other drawings 1 each, or 0
    without `exits`: then the caption has nowhere else to go. Without a caption all pictures weigh
    the same. There are `draws` samples per target.
    """
    target, caption = _targets(points, targets, draws)
    belongs = points.caption == caption[:, None]
    weights = belongs.float() if exits else torch.zeros(belongs.shape)
    weights[torch.arange(len(target)), target] = weight
    return World(Memorizer(points.pictures, weights), points.pictures, target, belongs)


def spike_world(
    points: Points,
    *,
    targets: int = 40,
    draws: int = 2,
    weight: float = 1000,
    narrow: float = 0.02,
    broad: float = 0.5,
    groups: int = 40,
) -> World:
    """Narrow targets among broad components: spikes on a smooth density.

    Captions fall into `groups` in turn. A target has variance `narrow`, every other picture
    `broad`. A prompt means its target with `weight` and each broad picture of its group with 1.
    """
    target, caption = _targets(points, targets, draws)
    belongs = points.caption % groups == caption[:, None] % groups
    variances = torch.full((len(points.pictures),), broad)
    variances[target] = narrow
    weights = (belongs & (variances == broad)).float()
    weights[torch.arange(len(target)), target] = weight
    model = SpikeAndSlab(points.pictures, variances, weights)
    return World(model, points.pictures, target, belongs)


def generalizer_world(points: Points, *, targets: int = 40, draws: int = 2) -> World:
    """A Gaussian of all pictures, and one per caption around the mean of its own.

    The captions share the covariance that is left within captions.
    """
    target, caption = _targets(points, targets, draws)
    belongs = points.caption == caption[:, None]
    own = torch.nn.functional.one_hot(points.caption).T.float()
    means = (own / own.sum(1, keepdim=True)) @ points.pictures.flatten(1)
    within = Gaussian.fit(points.pictures.flatten(1) - means[points.caption])
    cond = Gaussian(
        means[caption].view(-1, *points.pictures.shape[1:]), within.variances, within.basis
    )
    model = Generalizer(Gaussian.fit(points.pictures), cond)
    return World(model, points.pictures, target, belongs)


def _targets(points: Points, targets: int, draws: int) -> tuple[Tensor, Tensor]:
    """Target picture and caption of every sample, (targets * draws,) each."""
    if not 1 <= targets <= len(points.names):
        raise ValueError(f"targets is {targets}; there are 1 to {len(points.names)} captions")
    caption = torch.arange(targets).repeat(draws)
    return torch.searchsorted(points.caption, caption), caption
