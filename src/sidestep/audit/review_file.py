"""The file that a report's “Save reviews” leaves, read strictly: it comes from anybody."""

from collections import Counter
from pathlib import Path
from typing import Literal

import msgspec

from sidestep.audit import canonical
from sidestep.audit.evidence import Part
from sidestep.audit.reviews import Choice, Review, unfit
from sidestep.errors import BadReviews

FORM = "sidestep-reviews"
LARGEST = 2**20  # bytes: a page shows at most 120 exhibits


class Said(Part, frozen=True):
    """A choice."""

    exhibit: str
    choice: str
    note: str = ""


class ReviewFile(Part, frozen=True):
    """What one person chose, in one sitting."""

    form: Literal["sidestep-reviews"]
    version: Literal[1]
    audit: str  # SHA-256 of audit.json
    reviewer: str
    date: str  # when it was saved
    reviews: tuple[Said, ...]


def read(path: Path, audit: str, known: set[str]) -> list[Review]:
    """The reviews of a file.

    Args:
        path: the file.
        audit: SHA-256 of the audit.json that they must be about.
        known: names of its exhibits.

    Raises:
        BadReviews: the file cannot be read, is of another form or about another audit, or a review
            in it cannot stand in a bundle.
    """
    made = _parsed(path)
    if made.audit != audit:
        raise BadReviews(
            f"{path} is about another audit: it names the audit.json {made.audit[:12]!r}, and this "
            f"bundle's is {audit[:12]!r}; give the folder of that audit"
        )
    if not made.reviews:
        raise BadReviews(f"{path} holds no review; choose in the report, then save again")
    rows = [_review(made, said) for said in made.reviews]
    for one in rows:
        if reason := unfit(one, known):
            raise BadReviews(f"{path}, exhibit {one.exhibit!r}: {reason}; correct it, save again")
    (name, times), *_ = Counter(one.exhibit for one in rows).most_common(1)
    if times > 1:
        raise BadReviews(f"{path} has exhibit {name} twice; leave one of them")
    return rows


def _parsed(path: Path) -> ReviewFile:
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise ValueError(f"it has {size:,} bytes, and {LARGEST:,} are allowed")
        return msgspec.convert(canonical.parsed(path.read_bytes()), ReviewFile)
    except ValueError as error:
        raise BadReviews(
            f"{path} is no file of reviews ({error}); save one in the report of the audit"
        ) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise BadReviews(f"{path} cannot be read ({reason}); check the path") from error


def _review(made: ReviewFile, said: Said) -> Review:
    choice: Choice = said.choice  # type: ignore[assignment]  # `unfit` looks at it
    return Review(
        exhibit=said.exhibit,
        reviewer=made.reviewer,
        choice=choice,
        note=said.note,
        date=made.date,
    )
