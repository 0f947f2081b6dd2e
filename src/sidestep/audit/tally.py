"""What reviews come to: how many exhibits people call copies, and where they disagree.

Only counts. Exhibits are the most similar pictures and no sample of all, so a share of them says
nothing about the threshold in general.
"""

from collections.abc import Iterable
from itertools import groupby
from typing import Literal, NamedTuple

from sidestep.audit.reviews import CHOICES, Choice, Review, Reviews

Opinion = Literal["copy", "no copy", "unsure", "split"]
OPINIONS: tuple[Opinion, ...] = ("copy", "no copy", "unsure", "split")


class Reviewer(NamedTuple):
    """One reviewer's choices."""

    name: str
    choices: dict[Choice, int]
    date: str  # of the latest


class Tally(NamedTuple):
    """Reviews, counted; the calibrated decision on every exhibit is that it is a copy."""

    exhibits: int  # of the audit
    opinions: dict[str, Opinion]  # by exhibit that was reviewed
    several: int  # exhibits with more than one reviewer
    agreed: int  # of those, where all chose the same
    reviewers: tuple[Reviewer, ...]

    def count(self, opinion: Opinion) -> int:
        """How many exhibits people hold to be that."""
        return list(self.opinions.values()).count(opinion)

    @property
    def disputed(self) -> list[str]:
        """The exhibits that somebody calls no copy, in their order."""
        return [name for name, one in self.opinions.items() if one in ("no copy", "split")]


def tally(reviews: Reviews, exhibits: int) -> Tally:
    """The counts of the reviews of an audit with so many exhibits."""
    by_exhibit = {
        name: [one.choice for one in rows]
        for name, rows in groupby(reviews.reviews, key=lambda one: one.exhibit)
    }
    several = [set(choices) for choices in by_exhibit.values() if len(choices) > 1]
    names = sorted({one.reviewer for one in reviews.reviews})
    return Tally(
        exhibits=exhibits,
        opinions={name: opinion(choices) for name, choices in by_exhibit.items()},
        several=len(several),
        agreed=sum(len(choices) == 1 for choices in several),
        reviewers=tuple(
            _reviewer(name, [r for r in reviews.reviews if r.reviewer == name]) for name in names
        ),
    )


def opinion(choices: Iterable[Choice]) -> Opinion:
    """What choices on one exhibit come to: who is unsure leaves it to the others."""
    decided = set(choices) - {"unsure"}
    if len(decided) == 2:
        return "split"
    return next(iter(decided), "unsure")


def _reviewer(name: str, rows: list[Review]) -> Reviewer:
    choices = [one.choice for one in rows]
    return Reviewer(name, {c: choices.count(c) for c in CHOICES}, max(one.date for one in rows))
