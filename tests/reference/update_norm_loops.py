"""The correction of one step of one sample by the region of update norms, number by number.

From the description of Huang et al. (KDD 2026). Flat arrays; nothing here imports the library.
"""

import math
import statistics


def length(values):
    return math.sqrt(sum(v * v for v in values))


def clean(noise, before, alpha, sigma):
    return [(z - sigma * e) / alpha for z, e in zip(before, noise, strict=True)]


def statistics_of(runs):
    """Mean and standard deviation of both norms, and mean norm of the clean estimate, at one step.

    Each run is (noise, before, after the step, alpha, sigma).
    """
    updates = [length([b - a for a, b in zip(r[1], r[2], strict=True)]) for r in runs]
    latents = [length(r[2]) for r in runs]
    cleans = [length(clean(r[0], r[1], r[3], r[4])) for r in runs]
    return (
        statistics.mean(updates), statistics.stdev(updates),
        statistics.mean(latents), statistics.stdev(latents), statistics.mean(cleans),
    )  # fmt: skip


def into(values, low, high):
    """Scaled so that the norm lies between low and high."""
    now = length(values)
    wanted = low if now < low else high if now > high else now
    return [v * wanted / now for v in values]


def corrected(noise, before, after, alpha, sigma, next_alpha, region, mild, strong):
    """The latents after the step, and which of None, "mild", "strong" was done."""
    mean, std, latent_mean, latent_std, clean_mean = region
    update = [b - a for a, b in zip(before, after, strict=True)]
    deviation = abs(length(update) - mean) / std
    if deviation > strong:
        g = min(mild, strong)
        held = into(update, max(mean - g * std, 0), mean + g * std)
        moved = [a + u for a, u in zip(before, held, strict=True)]
        low = max(latent_mean - g * latent_std, 0)
        return into(moved, low, latent_mean + g * latent_std), "strong"
    if deviation > mild:
        x0 = clean(noise, before, alpha, sigma)
        factor = clean_mean / length(x0)
        return [b + next_alpha * (factor * c - c) for b, c in zip(after, x0, strict=True)], "mild"
    return list(after), None
