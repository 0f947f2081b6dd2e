"""From records to what is counted: shares by kind, prompt, draw and level, and the findings."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from sidestep.audit import names
from sidestep.audit.evidence import Exhibit, Finding, Group, Results, Share, TrainingPicture
from sidestep.audit.prompts import Caption, level_of
from sidestep.runs.records import Record, of_kind

KINDS = {
    "target": "captions of the training set",
    "ordinary": "ordinary prompts",
    "other": "no prompt",
}
EXHIBITS = 3  # generated pictures shown of a finding
Name = Callable[[Record], str]


def results(
    records: Sequence[Record], captions: Sequence[Caption], control_median: float
) -> Results:
    """The shares of copies of an audited setting."""
    counted = asked(records)
    times = {c.text: c.times for c in captions}
    by_prompt = groups(counted, lambda r: r.prompt)
    similarity = np.array([r.similarity[str(r.recipe)] for r in counted or records])
    return Results(
        kinds=groups(records, lambda r: KINDS[r.kind]),
        prompts=tuple(
            sorted((g for g in by_prompt if g.share.copies), key=lambda g: -g.share.share)
        ),
        draws=groups(counted, lambda r: str(r.draw)),
        levels=_in_order(
            groups((r for r in counted if times[r.prompt]), lambda r: level_of(times[r.prompt]))
        ),
        similarity_median=float(np.median(similarity)),
        similarity_p95=float(np.percentile(similarity, 95)),
        control_median=control_median,
    )


def asked(records: Iterable[Record]) -> list[Record]:
    """The pictures that a verdict rests on: those made for captions of the training set."""
    return of_kind(records, "target")


def groups(records: Iterable[Record], name: Name) -> tuple[Group, ...]:
    """The share of copies under each name, in the order in which names first come."""
    rows = dict[str, list[Record]]()
    for record in records:
        rows.setdefault(name(record), []).append(record)
    return tuple(Group(name=key, share=share(own)) for key, own in rows.items())


def share(records: Sequence[Record]) -> Share:
    """Copies among records, at least one."""
    return Share.count(sum(bool(r.copy) for r in records), len(records))


def findings(
    records: Sequence[Record],
    pictures: Mapping[str, TrainingPicture],
    command: Callable[[Record], str],
) -> list[Finding]:
    """The training pictures that came back, the most often copied first.

    `pictures` has those that a copy names; `command` makes a picture again.
    """
    copies = dict[str, list[Record]]()
    for record in records:
        if record.copy and record.nearest is not None:
            copies.setdefault(record.nearest, []).append(record)
    found = []
    for name, rows in sorted(copies.items(), key=lambda item: (-len(item[1]), item[0])):
        rows = sorted(rows, key=_similarity, reverse=True)
        prompts = {r.prompt for r in rows}
        made = groups((r for r in records if r.prompt in prompts), lambda r: r.prompt)
        found.append(
            Finding(
                training=pictures[name],
                prompts=made,
                similarity=_similarity(rows[0]),
                exhibits=tuple(
                    Exhibit(
                        prompt=r.prompt,
                        draw=r.draw,
                        seed=str(r.seed),
                        similarity=_similarity(r),
                        picture=names.generated(r),
                        command=command(r),
                    )
                    for r in rows[:EXHIBITS]
                ),
            )
        )
    return found


def _similarity(record: Record) -> float:
    return record.similarity[str(record.recipe)]


def _in_order(found: tuple[Group, ...]) -> tuple[Group, ...]:
    return tuple(sorted(found, key=lambda g: int(g.name.rstrip("+").partition("-")[0])))
