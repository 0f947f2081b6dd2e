"""Whether the numbers of a bundle follow from its records: counted and judged once more."""

from collections.abc import Iterator
from pathlib import Path

from sidestep.audit.evidence import Evidence, Share
from sidestep.audit.findings import KINDS, asked, groups, share
from sidestep.audit.names import OBSERVED, TRIED, confirmed
from sidestep.audit.verdict import Observed, judge
from sidestep.runs.records import Record, read


def recount(folder: Path) -> Iterator[str]:
    """What does not follow, as sentences; none where all does.

    Raises BadRecords for evidence or records that cannot be read.
    """
    evidence = Evidence.read(folder)
    parts = {part: read(folder / file) for part, file in evidence.records.items()}
    yield from _observed(evidence, parts[OBSERVED])
    yield from _tried(evidence, parts)
    again = judge(_seen(evidence, parts[OBSERVED]))
    if again.state != evidence.verdict.state:
        yield f"audit.json says {evidence.verdict.state}, and its records say {again.state}"
    elif again.share != evidence.verdict.share:
        yield (
            f"the verdict rests on {_said(evidence.verdict.share)}, and its records have "
            + _said(again.share)
        )
    # An edition may have words of them withheld.
    elif evidence.edition is None and again.reasons != evidence.verdict.reasons:
        yield "the reasons of the verdict in audit.json do not follow from its records"


def _observed(evidence: Evidence, rows: list[Record]) -> Iterator[str]:
    counted = asked(rows)
    by_prompt = {g.name: g.share for g in groups(counted, lambda r: r.prompt)}
    for name, here, there in (
        ("results by kind", evidence.results.kinds, groups(rows, lambda r: KINDS[r.kind])),
        ("results by draw", evidence.results.draws, groups(counted, lambda r: str(r.draw))),
    ):
        if here != there:
            yield f"{name} in audit.json are not those of its records"
    for group in evidence.results.prompts:
        if by_prompt.get(group.name) != group.share:
            yield f"the share of the prompt {group.name!r} is not that of its records"
    copied = {r.nearest for r in rows if r.copy}
    if copied != {f.training.id for f in evidence.findings if not f.local}:
        yield "the training pictures of the findings are not those that the records name"
    threshold = evidence.search.calibration["threshold"]
    wrong = sum(bool(r.copy) != (r.similarity[str(r.recipe)] > threshold) for r in rows)
    if wrong:
        yield f"{wrong} records are not judged by the calibrated threshold"


def _tried(evidence: Evidence, parts: dict[str, list[Record]]) -> Iterator[str]:
    rows = parts.get(TRIED, [])
    for one in evidence.tried:
        if one.findings is not None and one.findings != _share(rows, one.label):
            yield f"the copies under {one.label!r} are not those of its records"
    best = evidence.recommendation
    if best is not None and best.confirmed != _share(confirmed(parts, best.label), best.label):
        yield f"the confirmation of {best.label!r} is not that of its records"


def _said(share: Share | None) -> str:
    return "no pictures" if share is None else f"{share.copies} copies of {share.of}"


def _share(rows: list[Record], label: str) -> Share | None:
    own = [r for r in rows if r.rule == label]
    return share(own) if own else None


def _seen(evidence: Evidence, rows: list[Record]) -> Observed:
    counted = asked(rows)
    return Observed(
        level=evidence.verdict.level,
        rate=evidence.search.calibration["rate"],
        share=share(counted) if counted else None,
        prompts=[g for g in groups(counted, lambda r: r.prompt) if g.share.copies],
        captions=evidence.prompts.sampled,
        positives=evidence.search.positives,
        negative=evidence.search.negative,
        pictures=evidence.training.pictures,
        readable=evidence.training.readable,
        local=evidence.results.local,
    )
