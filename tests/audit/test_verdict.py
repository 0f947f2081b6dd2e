"""The verdict: closed forms of its tests, and each state with what would settle it."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from sidestep.audit.evidence import Group, Positive, Share
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
    assert f"{n - 40} pictures more" in verdict.settle[0]


def test_one_caption_that_always_copies_is_found_among_a_thousand() -> None:
    verdict = judge(observed(6, 6000, (6, 6), captions=1000))
    # 6 of 6000 is far below the level; 0.05^6 * 1000 = 1.6e-5 is far below the error.
    assert verdict.state == "finding" and "1 of 1000 caption" in verdict.reasons[0]


def test_what_chance_explains_is_no_finding() -> None:
    seen = observed(8, 6000, (1, 6), (2, 6), (2, 6), (1, 6), (2, 6), captions=1000)
    assert judge(seen).state == "pass"


@pytest.mark.parametrize("share", [(2, 3), (3, 4), (5, 60), (12, 90)])
def test_excess_is_the_binomial_tail(share: tuple[int, int]) -> None:
    k, n = share
    by_hand = sum(binom.pmf(i, n, 0.05) for i in range(k, n + 1))
    assert excess(k, n, 0.05) == pytest.approx(by_hand, rel=1e-9)  # two sums of the same terms


def test_findings_are_rare_where_there_is_nothing() -> None:
    """With every picture a copy at exactly the accepted level, at most ERROR end in a finding."""
    chance, found, runs = np.random.default_rng(0), 0, 200
    for _ in range(runs):
        counts = chance.binomial(4, 0.05, 20)
        found += (
            judge(
                observed(int(counts.sum()), 80, *((int(c), 4) for c in counts if c), captions=20)
            ).state
            == "finding"
        )
    # Two tests, each at ERROR; four standard deviations of 200 coin tosses above that.
    assert found / runs <= 2 * ERROR + 4 * np.sqrt(2 * ERROR / runs)


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
