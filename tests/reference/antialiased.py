"""Antialiased bilinear and bicubic resizing from their definition, number by number.

The kernel is stretched by the factor of reduction and each output pixel is the normalised weighted
mean of the input under it; columns first, then rows, rounded to 8 bits in between. Nothing here
imports the library or PIL.
"""

import math

import numpy as np


def triangle(x):
    return max(0.0, 1 - abs(x))


def keys(x, a=-0.5):
    x = abs(x)
    if x < 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    if x < 2:
        return (((x - 5) * x + 8) * x - 4) * a
    return 0.0


KERNELS = {"bilinear": (triangle, 1), "bicubic": (keys, 2)}


def weights(length, side, kernel, support):
    stretch = max(1.0, length / side)
    table = np.zeros((side, length))
    for i in range(side):
        centre = (i + 0.5) * length / side
        first = max(0, math.floor(centre - support * stretch + 0.5))
        last = min(length, math.floor(centre + support * stretch + 0.5))
        for j in range(first, last):
            table[i, j] = kernel((j + 0.5 - centre) / stretch)
        table[i] /= table[i].sum()
    return table


def to_bytes(values):
    return np.clip(np.floor(values + 0.5), 0, 255)


def resize(image, height, width, name):
    """Picture (H, W, 3) of bytes to (height, width, 3) of whole numbers in floats."""
    kernel, support = KERNELS[name]
    columns = weights(image.shape[1], width, kernel, support)
    rows = weights(image.shape[0], height, kernel, support)
    across = to_bytes(np.einsum("ij,hjc->hic", columns, image.astype(float)))
    return to_bytes(np.einsum("ij,jwc->iwc", rows, across))
