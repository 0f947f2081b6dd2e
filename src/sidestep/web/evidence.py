"""The HTML report of an audit: audit.json and its pictures as one file that opens offline.

It asks the network for nothing and escapes all text. One script, named in its policy by its hash,
saves what a person says of the exhibits; without exhibits there is none. The same bundle gives the
same bytes with the same versions of Sidestep, Pillow and Jinja.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from sidestep.audit import reviews as said
from sidestep.audit.blurred import NUMBERS
from sidestep.audit.evidence import FILE, Evidence, Group, Share
from sidestep.audit.reviews import Reviews
from sidestep.audit.tally import tally
from sidestep.errors import BadRecords
from sidestep.runs.records import write_atomic
from sidestep.web import figures, reviewing, statements
from sidestep.web.exhibits import cases, reviewable
from sidestep.web.page import environment
from sidestep.web.pictures import inside
from sidestep.web.visible import finalize
from sidestep.web.words import count

MAX_ROWS = 200  # of a table of prompts
MAX_FILES = 1000  # in the table of hashes


def write_evidence_report(
    bundle: Path, out: Path | None = None, reviews: Reviews | None = None
) -> Path:
    """Write the report of an audit's folder; returns its path.

    Args:
        bundle: holds audit.json and the files that it names.
        out: the file to write, `report.html` in the folder if None.
        reviews: what people say of its exhibits; None = what reviews.json of the folder says.

    Raises:
        BadRecords: audit.json or a file that it names cannot be used; an earlier report stays.
        BadReviews: the same of reviews.json.
        OSError: the report cannot be written.
    """
    bundle = Path(bundle)
    out = bundle / "report.html" if out is None else Path(out)
    reviews = said.read(bundle) if reviews is None else reviews
    write_atomic(out, render(Evidence.read(bundle), bundle, reviews))
    return out


def render(evidence: Evidence, bundle: Path, reviews: Reviews | None = None) -> str:
    """The report as text; the same bundle gives the same text."""
    templates = environment().overlay(finalize=finalize)
    templates.globals |= {
        "percent": figures.percent, "signed": figures.signed, "chance": figures.chance,
        "value": figures.value, "pairs": figures.pairs, "short": figures.short,
        "rising": figures.rising,
        "when": figures.when, "count": count, "bounds": statements.bounds,
        "came_back": statements.came_back, "brief": statements.brief,
        "measure": statements.measure, "together": figures.together, "top": top,
        "reviewed": statements.reviewed, "together_chosen": statements.together_chosen,
        "MAX_ROWS": MAX_ROWS, "NUMBERS": NUMBERS, "CHOICES": said.CHOICES, **reviewing.FIELDS,
    }  # fmt: skip
    word, mark = statements.STATES[evidence.verdict.state]
    files = list(hashes(evidence, bundle, reviews))
    shown = cases(bundle, evidence, reviews)
    script = reviewing.script() if reviewable(shown) else None
    text = templates.get_template("evidence.html.j2").render(
        e=evidence,
        word=word,
        mark=mark,
        sentence=statements.verdict(evidence),
        cases=shown,
        tally=tally(reviews, len(said.exhibits(evidence))) if reviews else None,
        audit=files[0][1],
        script=script,
        policy=script and reviewing.policy(script),
        recommended=_recommended(evidence),
        chosen=_chosen(evidence),
        tried=[t for t in evidence.tried if t.unfit is None],
        unfit=[t for t in evidence.tried if t.unfit is not None],
        files=files[:MAX_FILES],
        files_left=max(0, len(files) - MAX_FILES),
    )
    return text.rstrip("\n") + "\n"


def top(groups: tuple[Group, ...], *more: Share | None) -> float:
    """Where the bars of a table end: the highest bound among its shares, at most 1."""
    highs = [g.share.high for g in groups] + [s.high for s in more if s is not None]
    return max([*highs, 1e-9])


def hashes(
    evidence: Evidence, bundle: Path, reviews: Reviews | None = None
) -> Iterator[tuple[str, str]]:
    """(name, SHA-256) of audit.json, of the reviews and of every file that audit.json names."""
    names = dict.fromkeys([FILE, *evidence.records.values()])
    for finding in evidence.findings:
        pictures = [finding.training.picture, *(x.picture for x in finding.exhibits)]
        names |= dict.fromkeys(name for name in pictures if name)
    for name in names:
        path = inside(bundle, name)
        try:
            with path.open("rb") as file:
                yield name, hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise BadRecords(
                f"{path} is named in {FILE} but cannot be read ({error}); put the file back, or "
                "audit again"
            ) from error
        if name == FILE and reviews is not None:
            yield said.FILE, hashlib.sha256(reviews.to_bytes()).hexdigest()


def _chosen(evidence: Evidence) -> object:
    """What was tried under the recommendation's name, None where nothing is recommended."""
    one = evidence.recommendation
    return next((t for t in evidence.tried if one and t.label == one.label), None)


def _recommended(evidence: Evidence) -> str | None:
    one = evidence.recommendation
    return None if one is None else statements.confirmation(one, evidence.verdict.level)
