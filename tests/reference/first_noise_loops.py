"""The methods on first noise, one sample at a time, with derivatives written out.

From the formulas of Han et al. (NeurIPS 2025) and Jeon et al. (ICML 2025), and of Adam and AdamW.
Arrays are flat; `push(x)` is cond - uncond and `slope(x)` its Jacobian. Nothing here imports the
library or differentiates by machine.
"""

import math

import numpy as np


def length(values):
    return math.sqrt(sum(v * v for v in values))


def batchwise(x, push, gamma, rho, rounds):
    for _ in range(rounds):
        d = push(x)
        u = rho * d / length(d)
        x = x - gamma * (push(x + u) - push(x))
    return x


def adam(x, gradient, step, memory, rate, decay=0.0, b1=0.9, b2=0.999, eps=1e-8):
    """One update; step counts from 1, decay is decoupled (AdamW)."""
    first, second = memory
    x = x - rate * decay * x
    first = b1 * first + (1 - b1) * gradient
    second = b2 * second + (1 - b2) * gradient**2
    upward = first / (1 - b1**step)
    spread = np.sqrt(second / (1 - b2**step))
    return x - rate * upward / (spread + eps), (first, second)


def per_sample(x, push, slope, target, limit, rate, decay, penalty):
    """Noise, whether it met the target, updates made."""
    memory = (np.zeros_like(x), np.zeros_like(x))
    root = math.sqrt(len(x))
    for updates in range(limit + 1):
        d = push(x)
        if length(d) <= target:
            return x, True, updates
        if updates == limit:
            return x, False, updates
        gradient = slope(x).T @ d / length(d)
        gradient = gradient + penalty * 2 * (length(x) / root - 1) * x / (length(x) * root)
        x, memory = adam(x, gradient, updates + 1, memory, rate, decay)


def sharpness(x, push, slope, sigma, target, delta, alpha, limit, rate):
    """Noise, the gap there, whether it met the target, updates made."""
    memory = (np.zeros_like(x), np.zeros_like(x))
    for updates in range(limit + 1):
        gap = length(push(x))
        if gap <= target or updates == limit:
            return x, gap, gap <= target, updates
        score = -push(x) / sigma
        there = x + delta * score
        bend = -push(there) / sigma - score
        curve = -slope(x) / sigma
        inner = np.eye(len(x)) + delta * curve
        of_bend = (-slope(there) / sigma) @ inner - curve
        gradient = 2 * of_bend.T @ bend + 2 * alpha * x
        x, memory = adam(x, gradient, updates + 1, memory, rate)
