"""The verdict: does the model give its training pictures back more often than is accepted?

The null hypothesis is that each picture is a copy with a probability of at most the accepted level,
or of the calibrated rate of false alarms where that is higher. It is tested over all pictures made
for captions; for each caption alone, so that one caption that always copies is found among a
thousand that never do; and, where parts were looked for, of pictures that hold one. The three share
one error evenly, the captions' third split among them (Holm's procedure with weights, see `holm`):
a model that copies no more than is accepted ends in a finding at most once in twenty audits, and
no more often does a finding hold a sentence that is not so. A pass asks for more than no finding:
the upper bound of the share has to lie at or below the level, and the search has to be shown able
to see.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import beta, binom

from sidestep.audit.evidence import Group, Positive, Share, Verdict
from sidestep.audit.holm import rejected

ERROR = 0.05  # chance of a finding where there is none, whatever was tested
SEEN = 0.9  # share of planted copies that the search must find
READABLE = 0.95  # share of training pictures that must have been readable
MOST = 10**7  # pictures, beyond which more of them is no advice


@dataclass(frozen=True)
class Observed:
    """What a verdict rests on."""

    level: float  # accepted share of copies
    rate: float  # calibrated rate of false alarms
    share: Share | None  # of the pictures made for captions of the training set
    prompts: Sequence[Group]  # each caption with a copy, and its share
    captions: int  # captions sampled
    positives: Sequence[Positive]  # the first is what the model's own decoder makes of a copy
    negative: Share | None  # generated pictures called copies of never-trained ones
    pictures: int  # training pictures
    readable: int
    local: Share | None = None  # parts of training pictures among pictures that are no copies


def judge(seen: Observed) -> Verdict:
    """Pass, finding or inconclusive, with the reasons and with what would settle it.

    Raises ValueError unless 0 < level < 1 and 0 < rate < 1.
    """
    for name in ("level", "rate"):
        value = getattr(seen, name)
        if not 0 < value < 1:
            raise ValueError(f"{name} is {value}; it is a share between 0 and 1, such as 0.05")
    if seen.share is None:
        settle = ("Give captions: in files beside the pictures, or with --prompts.",)
        reason = "No prompt was sampled, so nothing can be said."
        return _verdict(seen, "inconclusive", (reason,), settle)
    if seen.negative is not None and seen.negative.low > seen.rate:
        return _verdict(seen, "inconclusive", (_wolf(seen.negative, seen.rate),), (_RAISE,))
    if found := _findings(seen, seen.share):
        return _verdict(seen, "finding", found, ())
    blind = _blind(seen)
    short = _short(seen, seen.share)
    if blind or short:
        reasons = tuple(reason for reason, _ in [*blind, *short])
        return _verdict(seen, "inconclusive", reasons, tuple(step for _, step in [*blind, *short]))
    reason = (
        f"{seen.share.copies} of {seen.share.of} pictures are copies, so at most "
        f"{_percent(seen.share.high)} (95 % interval); {_percent(seen.level)} are accepted."
    )
    return _verdict(seen, "pass", (reason,), ())


def excess(copies: int, of: int, chance: float) -> float:
    """The chance of at least so many copies if each picture is one with probability `chance`."""
    return float(binom.sf(copies - 1, of, chance))


def needed(copies: int, level: float) -> int | None:
    """The fewest pictures at which so many copies bound the share by `level`; None above MOST.

    The upper 95 % Clopper-Pearson bound falls with the number of pictures.
    """
    low, high = copies + 1, MOST
    if _upper(copies, high) > level:
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _upper(copies, middle) <= level else (middle + 1, high)
    return low


def _upper(copies: int, of: int) -> float:
    return float(beta.ppf(0.975, copies + 1, of - copies))


def _findings(seen: Observed, share: Share) -> tuple[str, ...]:
    chance = max(seen.level, seen.rate)
    whole = [share] if seen.local is None else [share, seen.local]
    p = [excess(s.copies, s.of, chance) for s in (*whole, *(g.share for g in seen.prompts))]
    captions = max(seen.captions, len(seen.prompts))
    weights = [1.0] * len(whole) + [1 / captions for _ in seen.prompts]
    if without := captions - len(seen.prompts):
        # Captions without a copy have p = 1, and keep their part of the error.
        p.append(1.0)
        weights.append(without / captions)
    certain = rejected(p, weights, ERROR)
    found = list[str]()
    if certain[0]:
        found.append(
            f"{share.copies} of {share.of} pictures made for captions of the training set are "
            f"copies ({_percent(share.share)}, 95 % interval {_percent(share.low)} to "
            f"{_percent(share.high)}); {_percent(chance)} are accepted."
        )
    if often := sum(certain[len(whole) :]):
        what = "caption gives" if often == 1 else "captions give"
        found.append(
            f"{often} of {seen.captions} {what} a training picture back more often than "
            f"{_percent(chance)} of the time (Holm-corrected, each draw counted)."
        )
    if seen.local is not None and certain[1]:
        found.append(
            f"{seen.local.copies} of {seen.local.of} pictures that are no copies as a whole hold "
            "a part of a training picture."
        )
    return tuple(found)


def _blind(seen: Observed) -> list[tuple[str, str]]:
    """Why having found nothing may mean little, each with what would help."""
    result = []
    for one in seen.positives[:1]:
        if one.found.share < SEEN:
            result.append(
                (
                    f"The search found {one.found.copies} of {one.found.of} planted copies "
                    f"({one.edit}); {_percent(SEEN)} are needed.",
                    "Take another recipe or a larger side, or add controls that are like the "
                    "training pictures, so that the threshold falls.",
                )
            )
    if seen.readable < READABLE * seen.pictures:
        result.append(
            (
                f"{seen.pictures - seen.readable} of {seen.pictures} training pictures could not "
                "be read, so copies of them are not seen.",
                "Repair or convert them; the index names each with its reason.",
            )
        )
    return result


def _short(seen: Observed, share: Share) -> list[tuple[str, str]]:
    """Whether there are too few pictures for a pass."""
    if share.high <= seen.level:
        return []
    reason = (
        f"{share.copies} of {share.of} pictures are copies, which does not bound their share by "
        f"{_percent(seen.level)}: it may be up to {_percent(share.high)}."
    )
    most = needed(share.copies, seen.level)
    if most is None:
        return [(reason, "Accept a higher --level, or turn on a rule that leaves fewer copies.")]
    more = most - share.of
    step = f"{more} more pictures without a copy would settle it: raise --draws or --captions."
    return [(reason, step)]


_RAISE = (
    "Look at the pictures: either these controls were trained on after all, or the threshold is "
    "too low for what these prompts show. Give other controls, or a lower --rate with more of them."
)


def _wolf(negative: Share, rate: float) -> str:
    return (
        f"{negative.copies} of {negative.of} generated pictures pass for copies of pictures that "
        f"were never trained on, more than the {_percent(rate)} that calibration promises."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def _verdict(
    seen: Observed, state: str, reasons: tuple[str, ...], settle: tuple[str, ...]
) -> Verdict:
    return Verdict(
        state=state,  # type: ignore[arg-type]
        reasons=reasons,
        settle=settle,
        level=seen.level,
        share=seen.share,
    )
