"""The papers' aggregates as literal loops over lists of numbers. Imports nothing of the library.

`table[p][i][r]` is the similarity of image i of prompt p to its reference r.
"""


def mean(values):
    return sum(values) / len(values)


def median(values):
    values = sorted(values)
    half = len(values) // 2
    return values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2


def percentile(values, p):
    values = sorted(values)
    place = (len(values) - 1) * p / 100
    low = int(place)
    if low + 1 == len(values):
        return values[low]
    return values[low] + (place - low) * (values[low + 1] - values[low])


def closest(images):
    return [max(references) for references in images]


def wen(table):
    return mean([mean(closest(images)) for images in table])


def nemo(table):
    medians = [median(closest(images)) for images in table]
    middle = median(medians)
    return middle, median([abs(m - middle) for m in medians])


def membench(table, cut):
    highest, top3, share = [], [], []
    for images in table:
        found = sorted(closest(images), reverse=True)
        highest.append(found[0])
        top3.append(mean(found[:3]))
        share.append(mean([1.0 if f > cut else 0.0 for f in found]))
    return mean(highest), mean(top3), mean(share)


def dcr(generated, training, cut):
    """Every generated row against every training row, whatever its prompt."""
    top = [max(sum(a * b for a, b in zip(g, t, strict=True)) for t in training) for g in generated]
    return mean(top), percentile(top, 95), mean([1.0 if v > cut else 0.0 for v in top])


def amg(top):
    ordered = sorted(top, reverse=True)
    count = max(1, int(len(ordered) * 5 / 100))
    return ordered[0], mean(ordered[:count])


def background(training, p):
    second = []
    for i, row in enumerate(training):
        others = [t for j, t in enumerate(training) if j != i]
        second.append(max(sum(a * b for a, b in zip(row, t, strict=True)) for t in others))
    return percentile(second, p)
