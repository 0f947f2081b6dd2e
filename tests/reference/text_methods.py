"""Mitigations of text and attention as literal loops over one sample's numbers.

Written from the formulas of the papers, with plain lists and no torch; slow on purpose. Nothing
here imports the library. Embeddings are lists of tokens, a token a list of numbers; attention
logits are lists [head][query][token]; noise is a flat list.
"""

import math
import statistics


def cads(tokens, noise, time, strength, low, high, mix):
    """Sadat et al.: anneal, rescale to the old mean and deviation, mix with psi."""
    if time <= low:
        gamma = 1.0
    elif time >= high:
        gamma = 0.0
    else:
        gamma = (high - time) / (high - low)
    noisy = [
        [
            math.sqrt(gamma) * value + strength * math.sqrt(1 - gamma) * n
            for value, n in zip(token, row, strict=True)
        ]
        for token, row in zip(tokens, noise, strict=True)
    ]
    old = [value for token in tokens for value in token]
    new = [value for token in noisy for value in token]
    result = []
    for token in noisy:
        row = []
        for value in token:
            unit = (value - statistics.fmean(new)) / statistics.stdev(new)
            rescaled = unit * statistics.stdev(old) + statistics.fmean(old)
            row.append(mix * rescaled + (1 - mix) * value)
        result.append(row)
    return result


def adamw_until_quiet(values, loss_and_gradient, target, steps, rate):
    """Wen et al.: AdamW with torch's defaults, the target looked at before each update.

    `values` is a flat list without the start token. Gives the values, whether the target was met,
    and how often the loss and its gradient were computed.
    """
    beta1, beta2, epsilon, decay = 0.9, 0.999, 1e-8, 0.01
    first, second = [0.0] * len(values), [0.0] * len(values)
    values = list(values)
    looks = 0
    for step in range(1, steps + 1):
        loss, gradient = loss_and_gradient(values)
        looks += 1
        if loss <= target:
            return values, True, looks, step - 1
        for i, g in enumerate(gradient):
            values[i] -= rate * decay * values[i]
            first[i] = beta1 * first[i] + (1 - beta1) * g
            second[i] = beta2 * second[i] + (1 - beta2) * g * g
            mean = first[i] / (1 - beta1**step)
            square = second[i] / (1 - beta2**step)
            values[i] -= rate * mean / (math.sqrt(square) + epsilon)
    loss, _ = loss_and_gradient(values)
    return values, loss <= target, looks + 1, steps


def masked(logits, length, branch, boost, mask):
    """Ren et al.: tokens after the end at minus infinity, the start token's logit boosted."""
    result = []
    for head in logits:
        rows = []
        for query in head:
            row = list(query)
            for token in range(len(row)):
                after_end = token > length - 1
                is_end = token == length - 1
                if (mask in ("padding", "end") and after_end) or (mask == "end" and is_end):
                    row[token] = -math.inf
            if branch == "cond":
                row[0] = boost * row[0]
            rows.append(row)
        result.append(rows)
    return result


def attenuated(logits, branch, section, factor, threshold):
    """Zhao et al.: logits of tokens whose highest logit stands out, times the factor."""
    if branch != "cond" or section not in ("down", "mid"):
        return logits
    result = []
    for head in logits:
        tokens = range(1, len(head[0]))
        highest = {i: max(query[i] for query in head) for i in tokens}
        mean = statistics.fmean(highest.values())
        deviation = statistics.stdev(highest.values())
        rows = []
        for query in head:
            row = list(query)
            for i in tokens:
                if (highest[i] - mean) / deviation > threshold and row[i] > 0:
                    row[i] = factor * row[i]
            rows.append(row)
        result.append(rows)
    return result


def guard(uncond, cond, calm, scale, repel):
    """Zhao et al.: toward the calm prediction, away from the plain one."""
    return [
        u + scale * (p - u) - repel * (c - u) for u, c, p in zip(uncond, cond, calm, strict=True)
    ]


def reanchored(uncond, original, modified, scale, low, high):
    """Chen et al., PR: both cases, number by number."""
    m = math.sqrt(sum((b - u) ** 2 for b, u in zip(modified, uncond, strict=True)))
    if m <= low:
        return [u + scale * (b - u) for u, b in zip(uncond, modified, strict=True)]
    a = (scale * low - high) / (scale - 1)
    s = min(scale * (m - a) / (high - a), scale)
    return [
        o + s * (b - o) + (scale - s) * (b - u)
        for u, o, b in zip(uncond, original, modified, strict=True)
    ]


def padded_anew(tokens, other, length, share, end):
    """Kim and No, a and b: padding from the encoding with another token, the end times `end`."""
    exchanged = round(share * (len(tokens) - length))
    result = []
    for i, token in enumerate(tokens):
        if i == length - 1:
            result.append([end * value for value in token])
        elif length <= i < length + exchanged:
            result.append(list(other[i]))
        else:
            result.append(list(token))
    return result


def padding_zeroed(tokens, length, share):
    """Kim and No, c: the share of the padding that follows the end token becomes zero."""
    zeroed = round(share * (len(tokens) - length))
    return [
        [0.0] * len(token) if length <= i < length + zeroed else list(token)
        for i, token in enumerate(tokens)
    ]
