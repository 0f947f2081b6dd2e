"""Records to numbers: one row per rule and kind of prompt."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sidestep.runs.records import Record
from sidestep.similarity.intervals import clopper_pearson


@dataclass(frozen=True)
class Row:
    """The images of one rule and one kind of prompt. Shares lie in [0, 1]."""

    images: int
    copies: int
    copy_share: float
    copy_low: float  # 95 % Clopper-Pearson bounds of copy_share
    copy_high: float
    good_share: float | None  # concept among the five best, and no copy
    opened_by_signal: int
    opened_by_fallback: int
    never_opened: int
    similarity_mean: float
    similarity_p95: float
    agreement_r1: float | None  # None, as good_share, where no place among concepts is known
    agreement_r5: float | None
    diversity: float | None  # mean dissimilarity between draws of one prompt; None for one draw
    nfe: float  # per image
    seconds: float  # per image
    text: dict[str, float]  # by image-text recipe that all images have, the mean


def is_scored(record: Record) -> bool:
    """Whether a record was compared with training pictures; its agreement may still be unknown."""
    return record.copy is not None and record.recipe is not None


def row(records: Sequence[Record]) -> Row:
    """Aggregate scored records of one rule and kind; ValueError for none or unscored ones.

    Agreement is that of all images, so one image without it leaves it unknown.
    """
    if not records or not all(map(is_scored, records)):
        raise ValueError("a summary row needs at least one record, and every record scored")
    n = len(records)
    copies = sum(bool(r.copy) for r in records)
    low, high = clopper_pearson(copies, n)
    similarity = np.array([r.similarity[str(r.recipe)] for r in records])
    places = [r.agreement for r in records if r.agreement is not None]
    place = np.array(places) if len(places) == n else None
    copied = np.array([bool(r.copy) for r in records])
    texts = [name for name in records[0].text if all(name in r.text for r in records)]
    spread = [r.spread for r in records if r.spread is not None]
    opened = [r.opened_by for r in records]
    return Row(
        images=n,
        copies=copies,
        copy_share=copies / n,
        copy_low=low,
        copy_high=high,
        good_share=None if place is None else float(((place <= 5) & ~copied).mean()),
        opened_by_signal=opened.count("signal"),
        opened_by_fallback=opened.count("fallback"),
        never_opened=opened.count("never"),
        similarity_mean=float(similarity.mean()),
        similarity_p95=float(np.percentile(similarity, 95)),
        agreement_r1=None if place is None else float((place <= 1).mean()),
        agreement_r5=None if place is None else float((place <= 5).mean()),
        diversity=float(np.mean(spread)) if spread else None,
        nfe=float(np.mean([r.nfe for r in records])),
        seconds=float(np.mean([r.seconds for r in records])),
        text={name: float(np.mean([r.text[name] for r in records])) for name in texts},
    )


def summarise(records: Sequence[Record]) -> dict[str, dict[str, dict[str, Any]]]:
    """{rule: {kind: row}} in the order in which the rules first occur."""
    groups: dict[str, dict[str, list[Record]]] = {}
    for record in records:
        groups.setdefault(record.rule, {}).setdefault(record.kind, []).append(record)
    return {
        rule: {kind: asdict(row(rows)) for kind, rows in kinds.items()}
        for rule, kinds in groups.items()
    }
