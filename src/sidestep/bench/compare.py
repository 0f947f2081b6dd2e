"""Run folders to one table: a line for each method and strength, beside plain guidance.

Reads records and run headers, nothing else. Folders may be put together when they are of the same
scenario, model, settings and versions, such as runs of different methods on different machines.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import bootstrap

from sidestep.audit.records import Kind, Record, file_of, read, unmeasured
from sidestep.audit.summary import row
from sidestep.bench.header import bound
from sidestep.errors import BadRecords

# A picture counts as changed beyond this pixel distance (root mean square, of 0..1). On the
# embedded model another batch size, which only rounds otherwise, moves pictures by 0.0001 at most;
# the mildest rule moves the picture that it changes least by 0.06.
CHANGED = 0.05
RESAMPLES = 5000
PAIRED = ("copy_share", "good_share", "agreement_r5", "similarity_mean")


class Change(NamedTuple):
    """A mean difference to plain guidance over the same seeds, with its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    """One method at one strength. Shares lie in [0, 1]; numbers without `ordinary` are of `kind`.

    Intervals of shares are Clopper-Pearson's, those of changes a bootstrap over prompts; both 95 %.
    """

    rule: str
    method: str
    plain: bool  # it is the plain guidance that the others are compared with
    curve: str  # what the strengths of a method share; its own label where it has but one
    strength: float | None
    kind: Kind  # target prompts where the run has any
    prompts: int
    images: int
    copies: int
    copy_share: float
    copy_low: float
    copy_high: float
    good_share: float
    similarity_mean: float
    similarity_p95: float
    agreement_r1: float
    agreement_r5: float
    diversity: float | None
    ordinary_images: int
    ordinary_changed: float | None  # share that differs from plain guidance's by over CHANGED
    ordinary_change: float | None  # mean pixel distance to plain guidance's
    ordinary_r5: float | None
    ordinary_r5_change: float | None  # to plain guidance
    nfe: float  # per image, over all prompts
    backward: float  # passes backward through the network per image, over all prompts
    reached: float  # share of images whose mitigations met their targets, over all prompts
    seconds: float  # per image, over all prompts
    memory: int | None  # bytes of GPU memory at most; None on a CPU
    against_plain: dict[str, Change] | None  # by name in PAIRED; None without pairs


def load(folders: Sequence[Path]) -> tuple[dict[str, Any], list[Record]]:
    """The header that run folders share and all their records.

    Raises BadRecords for a folder that holds no scored run, and for folders, or records of one
    folder, that do not belong together.
    """
    if not folders:
        raise ValueError("there is no folder; name at least one run folder")
    headers = [_header(Path(folder)) for folder in folders]
    _same_run(folders, headers)
    found: dict[tuple[str, str, int], Record] = {}
    for folder, header in zip(folders, headers, strict=True):
        own: set[tuple[str, str, int]] = set()
        for record in _records(Path(folder), header):
            key = (record.rule, record.prompt, record.draw)
            if key in own:
                raise BadRecords(
                    f"{folder} holds {record.rule!r} twice for the prompt {record.prompt!r}, draw "
                    f"{record.draw}; its records were put together from two runs"
                )
            own.add(key)
            if unmeasured(found.setdefault(key, record)) != unmeasured(record):
                raise BadRecords(
                    f"{folder} holds another result than the folders before it for "
                    f"{record.rule!r}, {record.prompt!r}, draw {record.draw}; compare one of them"
                )
    rows = list(found.values())
    recipes = {(r.recipe, r.threshold) for r in rows}
    if len(recipes) > 1:
        raise BadRecords(
            f"the records were judged by different recipes or thresholds ({_list(recipes)}), whose "
            "numbers cannot stand in one column; compare runs of one recipe"
        )
    return headers[0], rows


def _header(folder: Path) -> dict[str, Any]:
    file = folder / "run.json"
    try:
        header = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadRecords(
            f"{file} cannot be read ({error}); a comparison needs run folders with their run.json"
        ) from error
    if not isinstance(header, dict) or not isinstance(header.get("rules"), list):
        raise BadRecords(f"{file} is not the header of a run; it lacks the list of methods")
    return header


def _same_run(folders: Sequence[Path], headers: Sequence[Mapping[str, Any]]) -> None:
    first = {k: v for k, v in bound(headers[0]).items() if k != "rules"}
    for folder, header in zip(folders[1:], headers[1:], strict=True):
        other = {k: v for k, v in bound(header).items() if k != "rules"}
        wrong = [k for k in dict.fromkeys([*first, *other]) if first.get(k) != other.get(k)]
        if wrong:
            raise BadRecords(
                f"{folders[0]} and {folder} are not of one scenario and version: they differ in "
                f"{', '.join(wrong)}. Compare each on its own"
            )


def _records(folder: Path, header: Mapping[str, Any]) -> list[Record]:
    file = file_of(folder)
    if not file.exists() and (folder / "units").is_dir():
        raise BadRecords(
            f"{folder} holds a part of a run that is not scored yet. Copy the folders of all "
            "shards into one and run once more there, without --shard"
        )
    rows = read(file)
    known = {(m["rule"], m["method"], json.dumps(m["settings"])) for m in header["rules"]}
    for r in rows:
        if (r.rule, r.method, json.dumps(r.settings)) not in known:
            raise BadRecords(
                f"{file} has a record of {r.rule!r} with settings that run.json does not list; it "
                "holds records of another run"
            )
        if r.copy is None or r.agreement is None:
            raise BadRecords(
                f"{file} has no scores, so there is nothing to compare; score it by running the "
                "scenario, pictures of `sidestep sample` are not scored"
            )
    return rows


def compare(records: Sequence[Record]) -> list[Line]:
    """A line for each method and strength, in the order in which they first occur."""
    by_rule: dict[str, list[Record]] = {}
    for record in records:
        by_rule.setdefault(record.rule, []).append(record)
    kinds: list[Kind] = ["target", "other", "ordinary"]
    kind = next(k for k in kinds if any(r.kind == k for r in records))
    plain = next((rows for rows in by_rule.values() if rows[0].method == "constant"), None)
    return [_line(rows, kind, plain) for rows in by_rule.values() if _of(rows, kind)]


def _line(rows: list[Record], kind: Kind, plain: list[Record] | None) -> Line:
    first, main, ordinary = rows[0], _of(rows, kind), _of(rows, "ordinary")
    made = row(main)
    changes = [r.change for r in ordinary if r.change is not None]
    r5 = row(ordinary).agreement_r5 if ordinary else None
    pairs = _pairs(ordinary, _of(plain or [], "ordinary"))
    memory = [r.memory for r in rows if r.memory is not None]
    return Line(
        rule=first.rule,
        method=first.method,
        plain=rows is plain,
        curve=first.curve or first.rule,
        strength=first.strength,
        kind=kind,
        prompts=len({r.prompt for r in main}),
        images=made.images,
        copies=made.copies,
        copy_share=made.copy_share,
        copy_low=made.copy_low,
        copy_high=made.copy_high,
        good_share=made.good_share,
        similarity_mean=made.similarity_mean,
        similarity_p95=made.similarity_p95,
        agreement_r1=made.agreement_r1,
        agreement_r5=made.agreement_r5,
        diversity=made.diversity,
        ordinary_images=len(ordinary),
        ordinary_changed=float(np.mean(np.array(changes) > CHANGED)) if changes else None,
        ordinary_change=float(np.mean(changes)) if changes else None,
        ordinary_r5=r5,
        ordinary_r5_change=(
            float(np.mean([_numbers(a)[2] - _numbers(b)[2] for a, b in pairs])) if pairs else None
        ),
        nfe=float(np.mean([r.nfe for r in rows])),
        backward=float(np.mean([r.backward for r in rows])),
        reached=float(np.mean([r.reached for r in rows])),
        seconds=float(np.mean([r.seconds for r in rows])),
        memory=max(memory) if memory else None,
        against_plain=None if plain is None or rows is plain else changes_to(main, plain),
    )


def _of(rows: Sequence[Record], kind: Kind) -> list[Record]:
    return [r for r in rows if r.kind == kind]


def _pairs(rows: Sequence[Record], plain: Sequence[Record]) -> list[tuple[Record, Record]]:
    """Records of the same prompt and draw, so of the same first noise."""
    there = {(r.prompt, r.draw): r for r in plain}
    return [(r, there[r.prompt, r.draw]) for r in rows if (r.prompt, r.draw) in there]


def _numbers(r: Record) -> tuple[float, ...]:
    """What an image adds to each mean of PAIRED."""
    close = (r.agreement or 6) <= 5
    return (
        float(bool(r.copy)),
        float(close and not r.copy),
        float(close),
        r.similarity[str(r.recipe)],
    )


def changes_to(rows: Sequence[Record], plain: Sequence[Record]) -> dict[str, Change] | None:
    """The mean differences to plain guidance over the same seeds, by name in PAIRED.

    The interval is a percentile bootstrap that draws prompts, since images of one prompt resemble
    each other. None with fewer than two prompts in common.

    Source: Efron, The Annals of Statistics, 1979.
    """
    by_prompt: dict[str, list[Any]] = {}
    for own, other in _pairs(rows, plain):
        apart = np.subtract(_numbers(own), _numbers(other))
        by_prompt.setdefault(own.prompt, []).append(apart)
    if len(by_prompt) < 2:
        return None
    each = np.array([np.mean(values, axis=0) for values in by_prompt.values()])
    found = bootstrap(
        (each,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    means = each.mean(axis=0)
    return {
        name: Change(float(means[i]), float(found.low[i]), float(found.high[i]))
        for i, name in enumerate(PAIRED)
    }


def _list(recipes: set[tuple[str | None, float | None]]) -> str:
    return ", ".join(sorted(f"{name} above {threshold}" for name, threshold in recipes))
