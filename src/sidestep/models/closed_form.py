"""Denoisers without a network: exact for a finite set, for a Gaussian, and for what lies between.

If pictures come from a mixture of Gaussians with centres X_i, variances h_i and weights w_i, then
at a level `x = alpha x0 + sigma n` the latents are a mixture too, and the best noise prediction is

    p_i ~ w_i v_i^(-D/2) exp(-||x - alpha X_i||^2 / (2 v_i))    v_i = alpha^2 h_i + sigma^2
    eps = sigma sum_i p_i (x - alpha X_i) / v_i  =  -sigma grad log p(x)

With h_i = 0 every path ends on a stored picture: `Memorizer`. With one broad component no path
can end on a picture for being stored: `Generalizer`. Narrow targets among broad components are
`SpikeAndSlab`, the geometry a memorizing network has around a duplicated picture. In all three
the basin of Jain et al. (CVPR 2025, arXiv:2411.16738) is exact and costs seconds on a CPU.

Sizes: B samples, N components, D numbers in a picture of shape S. Arithmetic runs in the dtype of
the model's tensors (float64 for tests, float32 for experiments); answers come in the dtype of x.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sidestep.guidance.base import Needs, Prediction
from sidestep.guidance.denoiser import Level


@dataclass(frozen=True)
class Memorizer:
    """Memorizes perfectly: the exact denoiser of a finite weighted set of pictures.

    `points` (N, *S) are the pictures. `cond_weights` (B, N) holds one row per sample: the weight of
    each picture under that sample's caption, 0 where it does not belong. `uncond_weights` (N,) are
    the weights without a caption, all equal if None. Only ratios of weights matter.
    """

    points: Tensor
    cond_weights: Tensor
    uncond_weights: Tensor | None = None

    def __post_init__(self) -> None:
        """Refuse weights that do not fit the points or leave a sample without any picture."""
        _check_mixture(self.points, self.cond_weights, self.uncond_weights)

    def __call__(self, x: Tensor, level: Level, needs: Needs) -> Prediction:
        """Noise predictions (B, *S). Raises ValueError if x is not of the model's shape."""
        return _mixture(x, level, needs, self.points, 0.0, self.cond_weights, self.uncond_weights)

    def select(self, rows: Tensor) -> "Memorizer":
        """The denoiser of some samples of the batch, by index or mask."""
        return replace(self, cond_weights=self.cond_weights[rows])


@dataclass(frozen=True)
class SpikeAndSlab:
    """Narrow components among broad ones: memorizes some pictures and generalizes on the rest.

    As `Memorizer`, and every picture has a `variances` (N,) of its own, the same along all its
    coordinates, in squared units of the points. Small = a spike that is copied, large = a slab that
    gives a new picture each time; 0 is allowed.
    """

    points: Tensor
    variances: Tensor
    cond_weights: Tensor
    uncond_weights: Tensor | None = None

    def __post_init__(self) -> None:
        """Refuse weights that do not fit the points, and variances that are none."""
        _check_mixture(self.points, self.cond_weights, self.uncond_weights)
        if self.variances.shape != (len(self.points),):
            raise ValueError(
                f"variances has shape {tuple(self.variances.shape)} and there are "
                f"{len(self.points)} points; give one variance per point"
            )
        _check_not_negative("variances", self.variances)

    def __call__(self, x: Tensor, level: Level, needs: Needs) -> Prediction:
        """Noise predictions (B, *S). Raises ValueError if x is not of the model's shape."""
        return _mixture(
            x, level, needs, self.points, self.variances, self.cond_weights, self.uncond_weights
        )

    def select(self, rows: Tensor) -> "SpikeAndSlab":
        """The denoiser of some samples of the batch, by index or mask."""
        return replace(self, cond_weights=self.cond_weights[rows])


@dataclass(frozen=True)
class Gaussian:
    """A normal distribution of pictures, or with a leading axis of the mean one per sample.

    `mean` (*S) or (B, *S); `variances` (D,) or (B, D) along the coordinates of a flattened picture,
    or along the columns of `basis` (D, D) if there is one, which must be orthonormal.
    """

    mean: Tensor
    variances: Tensor
    basis: Tensor | None = None

    def __post_init__(self) -> None:
        """Refuse a variance below zero and a basis of another size."""
        _check_not_negative("variances", self.variances)
        size = self.variances.shape[-1]
        if self.basis is not None and self.basis.shape != (size, size):
            raise ValueError(
                f"basis has shape {tuple(self.basis.shape)} and there are {size} variances; "
                f"it must be ({size}, {size}), one column per variance"
            )

    @classmethod
    def of_covariance(cls, mean: Tensor, covariance: Tensor) -> "Gaussian":
        """From a full covariance (D, D). Raises ValueError if it has a negative eigenvalue."""
        values, basis = torch.linalg.eigh(covariance)
        # Rounding puts the zero eigenvalues of a low-rank covariance on either side of zero.
        if values.min() < -1e-4 * values.abs().max():
            raise ValueError(
                f"the covariance has an eigenvalue of {float(values.min()):.3g}; a covariance is "
                "symmetric and has none below zero"
            )
        return cls(mean, values.clamp(min=0), basis)

    @classmethod
    def fit(cls, points: Tensor, weights: Tensor | None = None) -> "Gaussian":
        """Mean and full covariance of points (N, *S) with weights (N,), all equal if None."""
        flat = points.flatten(1)
        share = torch.ones_like(flat[:, 0]) if weights is None else weights.to(flat)
        share = share / share.sum()
        mean = share @ flat
        away = flat - mean
        return cls.of_covariance(mean.view(points.shape[1:]), (away.T * share) @ away)

    def noise(self, x: Tensor, level: Level) -> Tensor:
        """The exact noise prediction `sigma (alpha^2 C + sigma^2)^-1 (x - alpha mean)`, (B, *S)."""
        away = (x.to(self.mean) - level.alpha * self.mean).flatten(1)
        shrink = level.sigma / (level.alpha**2 * self.variances + level.sigma**2)
        if self.basis is None:
            away = away * shrink
        else:
            away = ((away @ self.basis) * shrink) @ self.basis.T
        return away.view(x.shape).to(x)

    def select(self, rows: Tensor) -> "Gaussian":
        """The Gaussians of some samples, by index or mask; the mean must be (B, *S)."""
        variances = self.variances[rows] if self.variances.ndim == 2 else self.variances
        return replace(self, mean=self.mean[rows], variances=variances)


@dataclass(frozen=True)
class Generalizer:
    """Never memorizes: the exact denoiser of Gaussians, which hold no picture to fall into.

    `uncond` has one mean (*S), `cond` one per sample (B, *S). Predictions are affine in x, so under
    a fixed rule a run maps first noise to pictures by one affine map for each sample.
    """

    uncond: Gaussian
    cond: Gaussian

    def __post_init__(self) -> None:
        """Refuse a `cond` that is not one Gaussian per sample of the pictures of `uncond`."""
        if self.cond.mean.shape[1:] != self.uncond.mean.shape:
            raise ValueError(
                f"the mean of cond has shape {tuple(self.cond.mean.shape)} and that of uncond "
                f"{tuple(self.uncond.mean.shape)}; cond needs one leading axis more, the samples"
            )

    def __call__(self, x: Tensor, level: Level, needs: Needs) -> Prediction:
        """Noise predictions (B, *S). Raises ValueError if x is not of the model's shape."""
        _check_call(x, level, self.cond.mean.shape)
        uncond = self.uncond.noise(x, level) if needs.uncond else None
        cond = self.cond.noise(x, level) if needs.cond else None
        return _prediction(uncond, cond, level)

    def select(self, rows: Tensor) -> "Generalizer":
        """The denoiser of some samples of the batch, by index or mask."""
        return replace(self, cond=self.cond.select(rows))


def _mixture(
    x: Tensor,
    level: Level,
    needs: Needs,
    points: Tensor,
    variances: Tensor | float,
    cond_weights: Tensor,
    uncond_weights: Tensor | None,
) -> Prediction:
    """Both exact predictions of a mixture; the distances to its points are computed once."""
    _check_call(x, level, torch.Size([len(cond_weights), *points.shape[1:]]))
    flat, centres = x.to(points).flatten(1), level.alpha * points.flatten(1)
    noisy = level.alpha**2 * variances + torch.full_like(centres[:, 0], level.sigma**2)  # v_i, (N,)
    distance = (flat**2).sum(1, keepdim=True) + (centres**2).sum(1) - 2 * flat @ centres.T
    log_normal = -distance / (2 * noisy) - flat.shape[1] / 2 * noisy.log()

    def noise(weights: Tensor) -> Tensor:
        pull = torch.softmax(log_normal + weights.to(points).log(), dim=1) / noisy  # p_i / v_i
        away = flat * pull.sum(1, keepdim=True) - pull @ centres
        return (level.sigma * away).view(x.shape).to(x)

    everywhere = torch.ones_like(noisy) if uncond_weights is None else uncond_weights
    uncond = noise(everywhere) if needs.uncond else None
    cond = noise(cond_weights) if needs.cond else None
    return _prediction(uncond, cond, level)


def _prediction(uncond: Tensor | None, cond: Tensor | None, level: Level) -> Prediction:
    """A branch that was not needed is the other one itself."""
    either = cond if uncond is None else uncond
    if either is None:
        raise ValueError("needs asks for neither prediction; ask for uncond, cond or both")
    uncond = either if uncond is None else uncond
    return Prediction(uncond, either if cond is None else cond, level.time)


def _check_call(x: Tensor, level: Level, shape: torch.Size) -> None:
    if x.shape != shape:
        raise ValueError(
            f"x has shape {tuple(x.shape)} and the model is for {tuple(shape)}; pass latents of "
            "that shape, or take a part of the batch with select()"
        )
    if not level.sigma > 0:
        raise ValueError(f"sigma is {level.sigma}; a noise prediction needs noise, sigma > 0")


def _check_mixture(points: Tensor, cond_weights: Tensor, uncond_weights: Tensor | None) -> None:
    if not points.is_floating_point() or not bool(points.isfinite().all()):
        raise ValueError(
            f"points are {points.dtype} or hold nan or inf; give finite float pictures"
        )
    number = len(points)
    _check_weights("cond_weights", cond_weights, (len(cond_weights), number))
    if uncond_weights is not None:
        _check_weights("uncond_weights", uncond_weights, (number,))


def _check_weights(name: str, weights: Tensor, shape: tuple[int, ...]) -> None:
    if weights.shape != shape:
        raise ValueError(
            f"{name} has shape {tuple(weights.shape)}; for these points it must be {shape}"
        )
    _check_not_negative(name, weights)
    empty = (weights.sum(-1) == 0).reshape(-1).nonzero()[:, 0].tolist()
    if empty:
        raise ValueError(f"{name} are all zero in row {empty[0]}; give at least one picture weight")


def _check_not_negative(name: str, values: Tensor) -> None:
    if not bool(((values >= 0) & (values < torch.inf)).all()):
        raise ValueError(f"{name} hold a negative, infinite or nan value; give numbers from 0 up")
