"""The guidance rules as literal loops over one sample's numbers, to compare the library with.

Written from the description of the method (Jain et al., CVPR 2025, and what its released scripts
do), with plain lists and no torch; slow on purpose. Nothing here imports the library.
"""

import math


def combine(uncond, cond, scale):
    """`uncond + scale * (cond - uncond)`, number by number."""
    return [u + scale * (c - u) for u, c in zip(uncond, cond, strict=True)]


def gap(uncond, cond):
    """The L2 norm of the difference."""
    return math.sqrt(sum((c - u) ** 2 for u, c in zip(uncond, cond, strict=True)))


def static(timesteps, change_step, before, after):
    """The scale at each timestep: `before` while t > T*, strictly, else `after`."""
    scales = []
    for t in timesteps:
        if t > change_step:
            scales.append(before)
        else:
            scales.append(after)
    return scales


def paper_transition(gaps):
    """The step at which the paper's dynamic rule switches on, None if never.

    The minimum d_{j-1} is known at step j, one step late: d_{j-2} > d_{j-1} < d_j.
    """
    for j in range(2, len(gaps)):
        if gaps[j - 2] > gaps[j - 1] and gaps[j - 1] < gaps[j]:
            return j
    return None


def released_dynamic(gaps, before, after):
    """Scales of the released dynamic script, with its two variables of memory and their -1."""
    prev = prevprev = -1
    transition = None
    scales = []
    for j, d in enumerate(gaps):
        if transition is None and d > prev and prevprev > prev:
            transition = j
        scales.append(after if transition is not None else before)
        prevprev, prev = prev, d
    return scales, transition


def dynamic(times, gaps, before, after, drop, earliest, latest, fallback):
    """Scales, transition step (-1 = never) and whether the fallback made it, with every option.

    At each step the whole past is looked at again: which minima have been passed by now, and
    which of them count?
    """
    scales, transition, fell_back = [], -1, False
    for now, time in enumerate(times):
        counted = []
        for seen_at in range(2, now + 1):
            low = seen_at - 1
            is_minimum = gaps[low - 1] > gaps[low] and gaps[seen_at] > gaps[low]
            deep = gaps[low] <= (1 - drop) * max(gaps[: low + 1])
            if is_minimum and deep and times[seen_at] >= latest:
                counted.append(low)
        if transition == -1:
            if counted and time <= earliest:
                transition = now
            elif fallback is not None and time <= fallback:
                transition, fell_back = now, True
        scales.append(before if transition == -1 else after)
    return scales, transition, fell_back


def schedule(shape, scale, t):
    """The scale at timestep t of 1000, as --CFG_scheduling of the released scripts gives it."""
    s = t / 1000
    if shape == "constant":
        return scale
    if shape == "invlinear":
        return scale * s
    if shape == "linear":
        return scale * (1 - s)
    if shape == "cosine":
        return scale * (math.cos(math.pi * s) + 1)
    if shape == "sine":
        return scale * (math.sin(math.pi * s - math.pi / 2) + 1)
    if shape == "v":
        return scale * (1 - s) if t > 500 else scale * s
    if shape == "a":
        return scale * (1 - s) if t < 500 else scale * s
    raise KeyError(shape)


def interval(timesteps, start, stop, scale):
    """The scale at each timestep: `scale` while stop < t <= start, else 1, the conditional one."""
    return [scale if stop < t <= start else 1.0 for t in timesteps]
