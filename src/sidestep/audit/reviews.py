"""What people say of an audit's exhibits: reviews.json of a bundle, beside audit.json.

A review answers one question about one exhibit: is the generated picture a copy of the training
picture beside it? It changes nothing that was measured. An exhibit is named by the places of its
finding and of itself in it, both from 1: `3.1` is the first exhibit of the third finding. Reviews
name the SHA-256 of the audit.json that they are about, so that `3.1` is the same pair for ever.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

import msgspec

from sidestep.audit import canonical
from sidestep.audit.evidence import FILE as AUDIT
from sidestep.audit.evidence import Evidence, Part
from sidestep.errors import BadReviews
from sidestep.runs.spreadsheet import STARTS

FILE = "reviews.json"
LARGEST = 64 * 2**20  # bytes of it
VERSION = 1
Choice = Literal["copy", "no copy", "unsure"]
CHOICES: tuple[Choice, ...] = ("copy", "no copy", "unsure")
NAME, NOTE = 100, 1000  # characters of a reviewer's name and of a note, at most
DATE = "%Y-%m-%dT%H:%M:%SZ"
JOINERS = str.maketrans("", "", "\u200c\u200d")  # Persian words and joined emoji need them


class Review(Part, frozen=True):
    """What somebody says of an exhibit."""

    exhibit: str
    reviewer: str
    choice: Choice
    note: str  # may be empty
    date: str  # UTC, such as 2026-11-03T09:12:44Z
    revised: Annotated[int, msgspec.Meta(ge=0)] = (
        0  # how often the reviewer has replaced what they had said of it
    )


class Reviews(Part, frozen=True):
    """All reviews of an audit, by exhibit and then by reviewer; one of each reviewer."""

    audit: str  # SHA-256 of audit.json
    reviews: tuple[Review, ...]
    version: int = VERSION

    @classmethod
    def of(cls, audit: str, reviews: Iterable[Review]) -> Self:
        """Reviews in their order, so that the same ones are the same bytes."""
        return cls(audit=audit, reviews=tuple(sorted(reviews, key=_place)))

    def to_bytes(self) -> bytes:
        """As reviews.json holds them: canonical JSON."""
        return canonical.to_bytes(msgspec.to_builtins(self))


class Merged(NamedTuple):
    """Reviews that came to others."""

    reviews: Reviews
    added: tuple[Review, ...]
    replaced: tuple[tuple[Review, Review], ...]  # (what is said now, what was said before)
    older: tuple[tuple[Review, Review], ...]  # (came and stays out, the later one that stays)


def exhibits(evidence: Evidence) -> list[str]:
    """The names of an audit's exhibits, in their order."""
    return [
        f"{number}.{place}"
        for number, finding in enumerate(evidence.findings, start=1)
        for place, _ in enumerate(finding.exhibits, start=1)
    ]


def digest(folder: Path) -> str:
    """The SHA-256 of a bundle's audit.json, which its reviews name."""
    with (folder / AUDIT).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(folder: Path) -> Reviews | None:
    """The reviews of a bundle, None where there are none.

    Raises BadReviews where they are not what `sidestep review` writes for its audit.json.
    """
    path = folder / FILE
    if not os.path.lexists(path):
        return None
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it has more than {LARGEST >> 20} MiB")
        made = msgspec.convert(canonical.from_bytes(path.read_bytes()), Reviews)
    except (OSError, ValueError) as error:
        raise _not_ours(path, str(error)) from error
    if made.version != VERSION:
        raise _not_ours(path, f"version {made.version}, and {VERSION} is known")
    if made.audit != digest(folder):
        raise BadReviews(
            f"{path} is about another {AUDIT}, {made.audit[:12]}; take it out of the folder, or "
            "put that file back"
        )
    known = set(exhibits(Evidence.read(folder)))
    for one in made.reviews:
        if reason := unfit(one, known):
            raise _not_ours(path, f"exhibit {one.exhibit!r}: {reason}")
    places = [_place(one) for one in made.reviews]
    if any(b <= a for a, b in pairwise(places)):
        raise _not_ours(path, "out of order, or two of one reviewer for one exhibit")
    return made


def problems(folder: Path) -> Iterator[str]:
    """Why the reviews of a bundle do not fit it, as a sentence; for `bundle.check`."""
    try:
        read(folder)
    except BadReviews as error:
        yield str(error)


def merge(old: Reviews, come: Iterable[Review]) -> Merged:
    """Reviews with others, of which a later one of the same reviewer and exhibit replaces."""
    kept = {(one.exhibit, one.reviewer): one for one in old.reviews}
    added, replaced, older = list[Review](), list[tuple[Review, Review]](), []
    for one in come:
        key = (one.exhibit, one.reviewer)
        before = kept.get(key)
        if before is None:
            added.append(one)
        elif one.date < before.date:
            older.append((one, before))
            continue
        elif _said(one) == _said(before):
            continue
        else:
            one = msgspec.structs.replace(one, revised=before.revised + 1)
            replaced.append((one, before))
        kept[key] = one
    made = Reviews.of(old.audit, kept.values())
    return Merged(made, tuple(added), tuple(replaced), tuple(older))


def unfit(one: Review, known: set[str]) -> str | None:
    """Why a review cannot stand in a bundle, as the end of a sentence; None if it can."""
    if one.exhibit not in known:
        return "the audit has no such exhibit"
    if one.choice not in CHOICES:
        return f"the choice {one.choice!r} is unknown; known are {', '.join(CHOICES)}"
    if not one.reviewer.translate(JOINERS).strip():
        return "the reviewer's name is missing"
    if not is_date(one.date):
        return f"the date {one.date!r} is not of the form 2026-11-03T09:12:44Z (UTC)"
    if reason := odd(one.reviewer, NAME):
        return f"the reviewer's name {reason}"
    if reason := odd(one.note, NOTE):
        return f"the note {reason}"
    return None


def odd(text: str, most: int) -> str | None:
    """Why a name or a note is refused, as the end of a sentence; None if it is not.

    Reviews are copied into pages and tables, so what either would take for code stays out.
    """
    if len(text) > most:
        return f"has {len(text)} characters; {most} are allowed"
    if text != text.strip():
        return "has blanks around it"
    shown = text.translate(JOINERS)
    if not shown.isprintable():
        return "has characters that do not print, or more than one line"
    if shown.startswith(STARTS):
        return f"begins with {shown[0]!r}, which a spreadsheet takes for a formula"
    if any(a == "<" and (b.isalpha() or b in "/!?") for a, b in pairwise(shown)):
        return "holds a tag of HTML"
    return None


def is_date(text: str) -> bool:
    """Whether a text is a moment in UTC, in the one form that reviews have."""
    try:
        return datetime.strptime(text, DATE).strftime(DATE) == text
    except ValueError:
        return False


def _said(one: Review) -> tuple[str, str, str]:
    return one.choice, one.note, one.date


def _place(one: Review) -> tuple[int, int, str]:
    finding, _, exhibit = one.exhibit.partition(".")
    return int(finding), int(exhibit), one.reviewer


def _not_ours(path: Path, reason: str) -> BadReviews:
    return BadReviews(
        f"{path} is not what `sidestep review` writes ({reason}); put the file of the bundle back"
    )
