"""The verdict: closed forms of its tests, and each state with what would settle it."""

from bisect import bisect_left
from dataclasses import replace
from itertools import combinations, combinations_with_replacement
from math import factorial, prod

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import binom

from sidestep.audit.evidence import Group, Positive, Share
from sidestep.audit.holm import rejected
from sidestep.audit.verdict import ERROR, Observed, excess, judge, needed
from sidestep.similarity.intervals import clopper_pearson


def observed(copies: int, of: int, *prompts: tuple[int, int], captions: int = 40) -> Observed:
    return Observed(
        level=0.05,
        rate=0.01,
        share=Share.count(copies, of),
        prompts=[Group(name=str(i), share=Share.count(*p)) for i, p in enumerate(prompts)],
        captions=captions,
        positives=[Positive(edit="decoded", found=Share.count(100, 100))],
        negative=Share.count(0, of),
        pictures=50,
        readable=50,
    )


def test_many_copies_are_a_finding() -> None:
    verdict = judge(observed(30, 160, (4, 4)))
    assert verdict.state == "finding"
    assert "30 of 160" in verdict.reasons[0]


def test_none_among_enough_is_a_pass() -> None:
    # The upper bound of 0 in n is 1 - 0.025^(1/n), by hand.
    for n in (72, 73, 500):
        high = 1 - 0.025 ** (1 / n)
        assert (judge(observed(0, n)).state == "pass") == (high <= 0.05)


def test_none_among_few_says_how_many_more() -> None:
    verdict = judge(observed(0, 40))
    assert verdict.state == "inconclusive"
    n = next(n for n in range(1, 500) if 1 - 0.025 ** (1 / n) <= 0.05)
    assert f"{n - 40} more pictures" in verdict.settle[0]


def test_one_caption_that_always_copies_is_found_among_a_thousand() -> None:
    verdict = judge(observed(6, 6000, (6, 6), captions=1000))
    # 6 of 6000 is far below the level; 0.05^6 * 1000 = 1.6e-5 is far below the error.
    assert verdict.state == "finding" and "1 of 1000 caption" in verdict.reasons[0]


def test_what_chance_explains_is_no_finding() -> None:
    seen = observed(8, 6000, (1, 6), (2, 6), (2, 6), (1, 6), (2, 6), captions=1000)
    assert judge(seen).state == "pass"


def test_false_alarms_are_no_finding_where_fewer_copies_are_accepted() -> None:
    """Eight of 400 is what a rate of 2 % makes of a model without copies."""
    seen = replace(observed(8, 400, (2, 4)), level=0.001, rate=0.02)
    assert judge(seen).state == "inconclusive"  # and no pass: 0.1 % is not shown
    # The same pictures where calibration promises less.
    assert judge(replace(seen, rate=0.001)).state == "finding"
    assert judge(replace(observed(60, 400, (2, 4)), level=0.001, rate=0.02)).state == "finding"


@pytest.mark.parametrize(("copies", "draws", "state"), [
    (1, 1, "inconclusive"), (2, 2, "finding"), (4, 4, "finding"), (0, 4, "inconclusive"),
    (0, 72, "pass"),
])  # fmt: skip
def test_one_caption_alone(copies: int, draws: int, state: str) -> None:
    # 0.05^1 is above the half of the error that each of two tests has, 0.05^2 = 0.0025 below it.
    pairs = [(copies, draws)] if copies else []
    assert judge(observed(copies, draws, *pairs, captions=1)).state == state


@pytest.mark.parametrize("share", [(2, 3), (3, 4), (5, 60), (12, 90)])
def test_excess_is_the_binomial_tail(share: tuple[int, int]) -> None:
    k, n = share
    by_hand = sum(binom.pmf(i, n, 0.05) for i in range(k, n + 1))
    assert excess(k, n, 0.05) == pytest.approx(by_hand, rel=1e-9)  # two sums of the same terms


def counted(counts, draws, local=None, **more) -> Observed:
    """What is observed of captions with so many copies each."""
    of = len(counts) * draws
    pairs = [(c, draws) for c in counts if c]
    seen = observed(sum(counts), of, *pairs, captions=len(counts))
    part = None if local is None or of == sum(counts) else Share.count(local, of - sum(counts))
    return replace(seen, local=part, **more)


def is_finding(seen: Observed) -> bool:
    return judge(seen).state == "finding"


def separately(seen: Observed) -> bool:
    """The rule without a correction across the tests: each at ERROR."""
    share, local = seen.share, seen.local
    p = [excess(g.share.copies, g.share.of, 0.05) for g in seen.prompts]
    return (
        excess(share.copies, share.of, 0.05) < ERROR
        or min(p, default=1.0) * seen.captions < ERROR
        or (local is not None and excess(local.copies, local.of, 0.05) < ERROR)
    )


def least(says, counts, draws) -> int:
    """The fewest parts with which that is said; more parts never unsay it."""
    left = draws * len(counts) - sum(counts)
    return bisect_left(range(left + 1), True, key=lambda n: says(counted(counts, draws, n)))


def chance_of(says, captions: int, draws: int, always: int = 0) -> float:
    """Exact: every way in which captions at the accepted level can copy, and parts with them.

    `always` captions more copy in each of their draws.
    """
    one, total = binom.pmf(range(draws + 1), draws, 0.05), 0.0
    for row in combinations_with_replacement(range(draws + 1), captions):
        ways = factorial(captions) / prod(factorial(row.count(c)) for c in set(row))
        weight = ways * prod(one[c] for c in row)
        if weight < 1e-9:  # 495 of these at most: below 1e-6 together, counted as said
            total += weight
            continue
        counts = [draws] * always + list(row)
        left = draws * captions - sum(row)
        total += weight * float(binom.sf(least(says, counts, draws) - 1, left, 0.05))
    return total


def test_all_tests_together_keep_one_error_where_there_is_nothing() -> None:
    """Every picture is a copy, or holds a part, with exactly the accepted chance."""
    assert chance_of(is_finding, 4, 7) <= ERROR
    # Three tests at ERROR each did not keep it, though counts are whole and few.
    assert chance_of(separately, 4, 7) > 1.5 * ERROR


@pytest.mark.parametrize(
    ("finding", "low", "high"), [(is_finding, 0.0, ERROR), (separately, 2.4 * ERROR, 1.0)]
)
def test_the_error_for_an_audit_of_an_ordinary_size(finding, low, high) -> None:
    """100 captions of 4 draws, with parts: exact, by convolution below the lines of each test."""
    captions, draws, n = 100, 4, 400

    def ones(total: int) -> list[int]:
        return [1] * total + [0] * (captions - total)

    # Where one caption alone, all captions, or parts make a finding; at these counts no other does.
    most = bisect_left(
        range(draws + 1), True, key=lambda c: finding(counted([c, *ones(0)[1:]], draws))
    )
    total = bisect_left(range(captions), True, key=lambda s: finding(counted(ones(s), draws)))
    below = np.array([1.0])
    for _ in range(captions):
        below = np.convolve(below, binom.pmf(range(most), draws, 0.05))
    quiet = sum(
        p * binom.cdf(least(finding, ones(s), draws) - 1, n - s, 0.05)
        for s, p in enumerate(below[:total])
    )
    assert low <= 1 - quiet <= high


def test_each_sentence_holds_though_another_is_true() -> None:
    """One of 5 captions always copies. That another is named, or parts are, stays an error."""

    def wrong(seen: Observed) -> bool:
        said = " ".join(judge(seen).reasons)
        assert "caption" in said
        return "1 of 5 caption gives" not in said or "hold a part" in said

    assert chance_of(wrong, 4, 8, always=1) <= ERROR


def test_one_family_shares_nothing_with_what_was_not_tested() -> None:
    """Without parts there are two families, with them three: the line moves accordingly."""
    n, line = 400, {}
    for name, local in (("two", None), ("three", 0)):
        line[name] = next(
            s for s in range(n) if is_finding(counted([1] * s + [0] * (n - s), 1, local))
        )
    for name, families in (("two", 2), ("three", 3)):
        # By hand: the first count whose tail lies below the family's share. A single caption cannot
        # make a finding here, as 0.05 * 400 is no p-value.
        assert line[name] == next(s for s in range(n) if excess(s, n, 0.05) < ERROR / families)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 1)), min_size=1, max_size=6),
    st.floats(0.01, 0.5),
)
def test_holm_is_the_closed_test_of_weighted_bonferroni(pairs, error) -> None:
    """A hypothesis falls if every set with it holds one whose p is below its share of the error."""
    p, w = [a for a, _ in pairs], [b for _, b in pairs]
    ids = range(len(p))
    sets = [s for k in ids for s in combinations(ids, k + 1)]
    ratios = [p[i] / w[i] for i in ids]
    # Where a ratio meets its line to the last digit, rounding decides.
    assume(not any(abs(ratios[i] * sum(w[j] for j in s) / error - 1) < 1e-9
                   for s in sets for i in s))  # fmt: skip
    falls = {s: any(ratios[i] < error / sum(w[j] for j in s) for i in s) for s in sets}
    closed = [all(falls[s] for s in sets if i in s) for i in ids]
    assert rejected(p, w, error) == closed


def test_an_evidence_that_counts_captions_wrongly_is_judged_all_the_same() -> None:
    """Bundles come from anybody, and are judged once more."""
    assert judge(observed(30, 160, (4, 4), (4, 4), captions=0)).state == "finding"
    assert judge(observed(30, 160, captions=0)).state == "finding"
    assert judge(observed(30, 160, (4, 4), captions=10**15)).state == "finding"


PROFILES = {
    "alike": lambda m, mean: [mean] * m,
    "one always": lambda m, mean: [1.0] * round(m * mean) + [0.0] * (m - round(m * mean)),
    "half twice": lambda m, mean: [min(1.0, 2 * mean)] * (m // 2) + [0.0] * (m - m // 2),
    "rising": lambda m, mean: np.clip(np.linspace(0, 2 * mean, m), 0, 1).tolist(),
    "a few often": lambda m, mean: [0.9] * int(m * mean) + [mean / 4] * (m - int(m * mean)),
}


def coverage(captions: list[float], draws: int) -> tuple[float, float]:
    """(how often the interval holds the mean chance, variance of the count), exactly."""
    counts = np.array([1.0])
    for chance in captions:
        counts = np.convolve(counts, binom.pmf(range(draws + 1), draws, chance))
    n, share = draws * len(captions), float(np.mean(captions))
    held = sum(
        p for k, p in enumerate(counts)
        # Bounds come from a root finder: a share that is exactly 0 or 1 meets them.
        if p and (b := clopper_pearson(k, n))[0] - 1e-12 <= share <= b[1] + 1e-12
    )  # fmt: skip
    k = np.arange(n + 1)
    return float(held), float(counts @ k**2 - (counts @ k) ** 2)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("captions", [5, 24])
def test_intervals_hold_the_share_of_the_sampled_captions(profile, captions) -> None:
    """Each caption is a stratum with a chance of its own; its draws are independent."""
    wide = []
    for mean in (0.002, 0.01, 0.05, 0.2, 0.4, 0.5, 0.7):
        for draws in (1, 4, 8):
            chances = PROFILES[profile](captions, mean)
            held, variance = coverage(chances, draws)
            n, share = captions * draws, float(np.mean(chances))
            assert held >= 0.95
            # At most that of as many pictures with the mean chance; rounding of the sums.
            assert variance <= n * share * (1 - share) + 1e-9
            wide.append(held)
    # For some the intervals are far wider than need be.
    assert profile == "alike" or max(wide) > 0.99


def test_pictures_that_are_copies_together_would_not_be_covered() -> None:
    """What the intervals could not bear: captions drawn anew, as if they stood for all others."""
    captions, draws, share = 24, 8, 0.2
    # Each caption drawn copies always or never.
    held = sum(
        binom.pmf(c, captions, share)
        for c in range(captions + 1)
        if (b := clopper_pearson(c * draws, captions * draws))[0] <= share <= b[1]
    )
    assert held < 0.7


@pytest.mark.parametrize("copies", [0, 1, 7])
def test_needed_is_where_the_bound_first_fits(copies: int) -> None:
    n = needed(copies, 0.05)
    assert n is not None
    assert clopper_pearson(copies, n)[1] <= 0.05 < clopper_pearson(copies, n - 1)[1]


def test_too_strict_a_level_has_no_number() -> None:
    assert needed(10, 1e-7) is None


def test_a_blind_search_cannot_pass() -> None:
    blind = [Positive(edit="decoded", found=Share.count(50, 100))]
    verdict = judge(replace(observed(0, 500), positives=blind))
    assert verdict.state == "inconclusive" and "50 of 100 planted" in verdict.reasons[0]
    # What it does see is a finding all the same.
    assert judge(replace(observed(60, 160), positives=blind)).state == "finding"


def test_unreadable_pictures_cannot_pass() -> None:
    verdict = judge(replace(observed(0, 500), readable=40))
    assert verdict.state == "inconclusive" and "10 of 50" in verdict.reasons[0]


def test_crying_wolf_is_inconclusive_whatever_was_found() -> None:
    verdict = judge(replace(observed(100, 160), negative=Share.count(20, 160)))
    assert verdict.state == "inconclusive" and verdict.settle


def test_no_prompts_is_inconclusive() -> None:
    verdict = judge(replace(observed(0, 10), share=None))
    assert verdict.state == "inconclusive" and "--prompts" in verdict.settle[0]


def test_parts_of_pictures_count_by_themselves() -> None:
    seen = replace(observed(0, 500), local=Share.count(60, 500))
    verdict = judge(seen)
    assert verdict.state == "finding" and "part of a training picture" in verdict.reasons[0]


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1])
def test_a_level_out_of_range_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match=r"level is"):
        judge(replace(observed(0, 10), level=level))
