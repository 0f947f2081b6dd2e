"""The exhibits of an audit's report: generated beside training picture, and where they differ.

Pictures are inlined, so only so many are shown; the rest is listed, and what is not even listed
is counted.
"""

from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from sidestep.audit.evidence import Evidence, Exhibit, Finding
from sidestep.audit.reviews import Review, Reviews
from sidestep.web.pictures import data_uri, difference

SIDE = 320  # pixels of a picture, at most
OPEN = 4  # findings that show at once
MAX_FINDINGS = 40  # with pictures; with three exhibits each about 8 MB
MAX_LISTED = 500  # without


class Shown(NamedTuple):
    """An exhibit with its pictures as data: URIs; None where there are none to show."""

    name: str  # by which reviews know it
    facts: Exhibit
    generated: Markup | None
    difference: Markup | None
    said: list[Review]
    reviewable: bool  # both pictures are there, unblurred


class Case(NamedTuple):
    """A finding as the page shows it."""

    number: int
    facts: Finding
    training: Markup | None
    exhibits: list[Shown]


class Cases(NamedTuple):
    """The findings: some open, some folded, some listed, the rest only counted."""

    open: list[Case]
    folded: list[Case]
    listed: list[tuple[int, Finding]]
    left: int


def cases(bundle: Path, evidence: Evidence, reviews: Reviews | None) -> Cases:
    """The findings of a bundle with pictures; BadRecords where one cannot be read.

    Blurred pictures are too small to tell how far they differ, so an edition has no differences.
    """
    findings, full = evidence.findings, evidence.edition is None
    said = dict[str, list[Review]]()
    for one in reviews.reviews if reviews else ():
        said.setdefault(one.exhibit, []).append(one)
    shown = [
        _case(bundle, i, f, full, said) for i, f in enumerate(findings[:MAX_FINDINGS], start=1)
    ]
    listed = list(enumerate(findings, start=1))[MAX_FINDINGS : MAX_FINDINGS + MAX_LISTED]
    left = max(0, len(findings) - MAX_FINDINGS - MAX_LISTED)
    return Cases(shown[:OPEN], shown[OPEN:], listed, left)


def reviewable(cases: Cases) -> bool:
    """Whether there is an exhibit that a person can judge."""
    return any(one.reviewable for case in (*cases.open, *cases.folded) for one in case.exhibits)


def _case(
    bundle: Path, number: int, finding: Finding, full: bool, said: dict[str, list[Review]]
) -> Case:
    name = finding.training.picture
    training = Markup(data_uri(bundle, name, SIDE)) if name else None
    shown = []
    for place, one in enumerate(finding.exhibits, start=1):
        title = f"{number}.{place}"
        shown.append(_exhibit(bundle, title, one, name if full else None, said.get(title, [])))
    return Case(number, finding, training, shown)


def _exhibit(
    bundle: Path, title: str, one: Exhibit, beside: str | None, said: list[Review]
) -> Shown:
    """An exhibit, with its difference to a picture if one is given."""
    if one.picture is None:
        return Shown(title, one, None, None, said, False)
    made = Markup(data_uri(bundle, one.picture, SIDE))
    if beside is None:
        return Shown(title, one, made, None, said, False)
    apart = Markup(difference(bundle, one.picture, beside, SIDE))
    return Shown(title, one, made, apart, said, True)
