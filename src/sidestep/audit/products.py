"""Dot products in the numbers that the processor multiplies fastest, and how far they may be off.

Processors with instructions for bfloat16 multiply it several times faster than float32. Its 8 bits
are too few to say which picture is nearest, but enough to say which cannot be: what rounding took
from each vector is measured, and the Cauchy-Schwarz inequality turns that into a bound.
"""

from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
MANY = 32  # queries from which on rounding the rows to bfloat16 pays
INTEGERS = {torch.bfloat16: torch.int16, torch.float32: torch.int32}  # of the same width


class Rounded(NamedTuple):
    """Some vectors after rounding."""

    values: torch.Tensor  # (n, D), bfloat16 or float32
    length: Float64  # (n,), of the values
    lost: Float64  # (n,), length of the difference to the vectors before

    @classmethod
    def of(cls, rows: NDArray[np.float16] | NDArray[np.float32], kind: torch.dtype) -> Self:
        """Vectors (n, D), rounded to one of the two kinds."""
        # torch has the vector instructions for float16 that numpy lacks.
        wide = torch.from_numpy(rows).float()
        # Squares of float16 fit into float32, squares of float32 do not.
        sums = torch.float32 if rows.dtype == np.float16 else torch.float64
        if kind == torch.float32:
            return cls(wide, _lengths(wide, sums), np.zeros(len(rows)))
        values = wide.to(kind)
        length = _lengths(values, sums)
        # In place where the wide rows are our own; queries may be the caller's.
        lost = wide.sub_(values) if wide.data_ptr() != rows.ctypes.data else wide - values
        return cls(values, length, _lengths(lost, sums))

    def part(self, part: slice) -> Self:
        """Some of them."""
        return type(self)(self.values[part], self.length[part], self.lost[part])


def fastest(queries: int) -> torch.dtype:
    """The kind in which that many queries are compared with rows fastest on this processor."""
    can = torch.cpu.get_capabilities()
    native = can.get("avx512_bf16", False) or can.get("amx_bf16", False)
    return torch.bfloat16 if native and queries >= MANY else torch.float32


def products(queries: Rounded, rows: Rounded) -> torch.Tensor:
    """Dot products (Q, n) in the kind of the values, each off by at most `error`."""
    a, b = queries.values, rows.values
    # In float32 numpy's library is the faster one, above all for few queries.
    return torch.from_numpy(a.numpy() @ b.numpy().T) if a.dtype == torch.float32 else a @ b.T


def reach(scores: torch.Tensor, bound: Float64) -> NDArray[np.bool_]:
    """Where products (Q, n) reach a bound for each query (Q,); where that is -inf, everywhere."""
    # Rounding keeps the order, so a product that reaches the bound reaches the rounded one.
    rounded = torch.from_numpy(bound).to(scores.dtype)[:, None]
    if bound.min(initial=np.inf) > np.finfo(np.float32).tiny:
        # Above zero floats have the order of their bits, which numpy compares many times faster.
        bits = INTEGERS[scores.dtype]
        found: NDArray[np.bool_] = scores.view(bits).numpy() >= rounded.view(bits).numpy()
    else:
        found = (scores >= rounded).numpy()
        # A product that overflowed is no number and reaches nothing; its bound is not finite.
        found[~np.isfinite(bound)] = True
    return found


def error(queries: Rounded, rows: Rounded) -> Float64:
    """How far a product of each query with any of the rows may be from the exact one, (Q,).

    With q' and r' for the rounded q and r, |qr - q'r'| <= |q - q'| |r| + |q'| |r - r'|. Summing
    q'r' in float32 adds D products and D - 1 sums, each off by u = 2^-24 in any order: at most
    D u / (1 - D u) times the product of the lengths (Higham, Accuracy and Stability of Numerical
    Algorithms, 2002, section 3.1), and u more for the rounding of what is compared to. Storing the
    sum rounds once more.
    """
    if not len(rows.length):
        return np.zeros(len(queries.length))
    dimension = rows.values.shape[1]
    units = (dimension + 2) * 2.0**-24
    summed = units / (1 - units) + torch.finfo(rows.values.dtype).eps / 2
    whole = (rows.length + rows.lost).max()
    bound: Float64 = queries.lost * whole + queries.length * rows.lost.max()
    bound += summed * queries.length * rows.length.max()
    # The lengths are float32 sums themselves: one part in a thousand covers them. Numbers below the
    # smallest normal one may count as zero.
    least = dimension * (whole + queries.length + 1) * float(np.finfo(np.float32).tiny)
    off: Float64 = 1.001 * bound + least
    return off


def _lengths(rows: torch.Tensor, sums: torch.dtype) -> Float64:
    found: Float64 = torch.linalg.vector_norm(rows, dim=1, dtype=sums).double().numpy()
    return found
