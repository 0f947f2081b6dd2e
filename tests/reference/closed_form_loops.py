"""The closed-form denoisers as literal loops over plain numbers, to compare the library with.

Written from the formulas: the posterior mean of the clean picture first, the noise from it. Slow on
purpose. Nothing here imports the library.
"""

import math

import numpy as np


def mixture_noise(x, alpha, sigma, points, variances, weights):
    """Noise prediction for one sample x (D numbers) of a mixture of isotropic Gaussians."""
    responsibilities = []
    for point, h, weight in zip(points, variances, weights, strict=True):
        v = alpha**2 * h + sigma**2
        density = weight
        for value, centre in zip(x, point, strict=True):
            density *= math.exp(-((value - alpha * centre) ** 2) / (2 * v))
            density /= math.sqrt(2 * math.pi * v)
        responsibilities.append(density)
    total = sum(responsibilities)
    noise = []
    for d, value in enumerate(x):
        clean = 0.0
        for point, h, r in zip(points, variances, responsibilities, strict=True):
            k = alpha * h / (alpha**2 * h + sigma**2)
            clean += r / total * (point[d] + k * (value - alpha * point[d]))
        noise.append((value - alpha * clean) / sigma)
    return noise


def gaussian_noise(x, alpha, sigma, mean, covariance):
    """Noise prediction for one sample of a Gaussian: regress the clean picture on x."""
    mean, covariance = np.asarray(mean), np.asarray(covariance)
    blurred = alpha**2 * covariance + sigma**2 * np.eye(len(mean))
    clean = mean + alpha * covariance @ np.linalg.inv(blurred) @ (np.asarray(x) - alpha * mean)
    return (np.asarray(x) - alpha * clean) / sigma
