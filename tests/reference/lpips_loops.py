"""LPIPS(Alex) from the formulas of its paper, in numpy and float64. Imports nothing of the library.

`weights` is AlexNet's state dictionary and `heads` the one of LPIPS, both as arrays.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

LAYERS = [(0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1)]  # number, stride, padding


def convolve(x, weight, bias, stride, padding):
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    kernel = weight.shape[-1]
    windows = sliding_window_view(x, (kernel, kernel), axis=(1, 2))[:, ::stride, ::stride]
    return np.tensordot(weight, windows, axes=([1, 2, 3], [0, 3, 4])) + bias[:, None, None]


def pool(x):
    return sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2].max((3, 4))


def features(image, weights):
    x = image.astype(float).transpose(2, 0, 1) / 255 * 2 - 1
    x = x - np.array([-0.030, -0.088, -0.188])[:, None, None]
    x = x / np.array([0.458, 0.448, 0.450])[:, None, None]
    found = []
    for number, stride, padding in LAYERS:
        if number in (3, 6):
            x = pool(x)
        weight, bias = (weights[f"features.{number}.{n}"] for n in ("weight", "bias"))
        x = np.maximum(0, convolve(x, weight, bias, stride, padding))
        found.append(x)
    return found


def lpips(first, second, weights, heads):
    total = 0.0
    pairs = zip(features(first, weights), features(second, weights), strict=True)
    for k, (a, b) in enumerate(pairs):
        head = heads[f"lin{k}.model.1.weight"].reshape(-1)
        height, width = a.shape[1:]
        layer = 0.0
        for i in range(height):
            for j in range(width):
                one, other = a[:, i, j], b[:, i, j]
                one = one / (np.sqrt((one**2).sum()) + 1e-10)
                other = other / (np.sqrt((other**2).sum()) + 1e-10)
                layer += (head * (one - other) ** 2).sum()
        total += layer / (height * width)
    return total
