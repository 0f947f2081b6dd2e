"""AUC and TPR at an FPR by trying every pair and every threshold. Imports nothing."""


def auc(memorized, ordinary):
    won = 0.0
    for m in memorized:
        for o in ordinary:
            if m > o:
                won += 1
            elif m == o:
                won += 0.5
    return won / (len(memorized) * len(ordinary))


def best_tpr(memorized, ordinary, most):
    """The highest TPR over all thresholds that at most `most` ordinary prompts reach."""
    best = 0.0
    for threshold in [*memorized, *ordinary, float("inf")]:
        passing = sum(1 for o in ordinary if o >= threshold)
        if passing <= most:
            best = max(best, sum(1 for m in memorized if m >= threshold) / len(memorized))
    return best
