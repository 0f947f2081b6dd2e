"""Run folders to one table: a line for each method and strength, beside plain guidance.

Prompts that are known to be memorized verbatim and as a template have lines of their own: most
template prompts look mitigated before anything is done, so one number over both says nothing.

Reads records and run headers, nothing else. Folders may be put together when they are of the same
scenario, model, settings and versions, such as runs of different methods on different machines.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sidestep.errors import BadRecords
from sidestep.runs.header import bound
from sidestep.runs.paired import Change, changes_to, close, pairs_of
from sidestep.runs.records import Form, Kind, Record, file_of, of_kind, read, unmeasured
from sidestep.runs.summary import is_scored, row
from sidestep.similarity.aggregates import dcr, wen

# A picture counts as changed beyond this pixel distance (root mean square, of 0..1). On the
# embedded model another batch size, which only rounds otherwise, moves pictures by 0.0001 at most;
# the mildest rule moves the picture that it changes least by 0.06.
CHANGED = 0.05


class Own(NamedTuple):
    """Similarity to the closest training picture of the prompt's own, under the deciding recipe."""

    images: int  # whose prompt has a picture of its own
    mean: float  # over a prompt's images, then over prompts, as Wen et al.
    p95: float  # 95th percentile over images
    share: float  # of images above the threshold


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
    form: Form | None  # of the prompts of this line, where those of the run differ in it
    recipe: str  # what similarity is measured with
    threshold: float  # above it a picture is a copy
    prompts: int
    images: int
    copies: int
    copy_share: float
    copy_low: float
    copy_high: float
    good_share: float | None
    similarity_mean: float
    similarity_p95: float
    own: Own | None  # None where no prompt has training pictures of its own
    agreement_r1: float | None  # None, as good_share, where no place among concepts is known
    agreement_r5: float | None
    text: dict[str, float]  # by image-text recipe, the mean; recipes do not compare
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
    against_plain: dict[str, Change] | None  # by number, see `changes_to`; None without pairs


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
    except FileNotFoundError as error:
        raise BadRecords(
            f"{folder} has no run.json; give a folder that `sidestep bench run` wrote"
        ) from error
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
        if not is_scored(r):
            raise BadRecords(
                f"{file} has no scores, so there is nothing to compare; score it by running the "
                "scenario, pictures of `sidestep sample` are not scored"
            )
    return rows


def compare(records: Sequence[Record]) -> list[Line]:
    """A line for each method and strength, in the order in which they first occur.

    Where prompts differ in form each form has its lines, those of no known form the last.
    """
    by_rule: dict[str, list[Record]] = {}
    for record in records:
        by_rule.setdefault(record.rule, []).append(record)
    kinds: list[Kind] = ["target", "other", "ordinary"]
    kind = next(k for k in kinds if of_kind(records, k))
    plain = next((rows for rows in by_rule.values() if rows[0].method == "constant"), None)
    known = {r.form for r in of_kind(records, kind)}
    forms: list[Form | None] = ["verbatim", "template", None]
    lines = []
    for form in [f for f in forms if f in known]:
        for rows in by_rule.values():
            part = [r for r in rows if r.kind != kind or r.form == form]
            if of_kind(part, kind):
                shown = form if len(known) > 1 else None
                lines.append(_line(part, kind, shown, plain, plain=rows is plain))
    return lines


def _line(
    rows: list[Record], kind: Kind, form: Form | None, beside: list[Record] | None, *, plain: bool
) -> Line:
    first, main, ordinary = rows[0], of_kind(rows, kind), of_kind(rows, "ordinary")
    made = row(main)
    changes = [r.change for r in ordinary if r.change is not None]
    r5 = row(ordinary).agreement_r5 if ordinary else None
    pairs = pairs_of(ordinary, of_kind(beside or [], "ordinary"))
    memory = [r.memory for r in rows if r.memory is not None]
    return Line(
        rule=first.rule,
        method=first.method,
        plain=plain,
        curve=first.curve or first.rule,
        strength=first.strength,
        kind=kind,
        form=form,
        recipe=str(first.recipe),
        threshold=_threshold(first),
        prompts=len({r.prompt for r in main}),
        images=made.images,
        copies=made.copies,
        copy_share=made.copy_share,
        copy_low=made.copy_low,
        copy_high=made.copy_high,
        good_share=made.good_share,
        similarity_mean=made.similarity_mean,
        similarity_p95=made.similarity_p95,
        own=_own(main),
        agreement_r1=made.agreement_r1,
        agreement_r5=made.agreement_r5,
        text=made.text,
        diversity=made.diversity,
        ordinary_images=len(ordinary),
        ordinary_changed=float(np.mean(np.array(changes) > CHANGED)) if changes else None,
        ordinary_change=float(np.mean(changes)) if changes else None,
        ordinary_r5=r5,
        ordinary_r5_change=(
            float(np.mean([close(a) - close(b) for a, b in pairs]))
            if pairs and r5 is not None
            else None
        ),
        nfe=float(np.mean([r.nfe for r in rows])),
        backward=float(np.mean([r.backward for r in rows])),
        reached=float(np.mean([r.reached for r in rows])),
        seconds=float(np.mean([r.seconds for r in rows])),
        memory=max(memory) if memory else None,
        against_plain=None if beside is None or plain else changes_to(main, beside),
    )


def _threshold(record: Record) -> float:
    if record.threshold is None:
        raise BadRecords(
            f"the records of {record.rule!r} hold copies and no threshold, so nobody can say what "
            "a copy is; they were written by something else than a run"
        )
    return record.threshold


def _own(rows: Sequence[Record]) -> Own | None:
    """The aggregates of the papers over images whose prompt has training pictures of its own."""
    by_prompt: dict[str, list[float]] = {}
    for r in rows:
        if r.own is not None:
            by_prompt.setdefault(r.prompt, []).append(r.own[str(r.recipe)])
    if not by_prompt:
        return None
    prompts = list(by_prompt.values())
    every = [value for row in prompts for value in row]
    over = dcr(every, _threshold(rows[0]))
    return Own(len(every), wen(prompts), over.p95, over.share)


def _list(recipes: set[tuple[str | None, float | None]]) -> str:
    return ", ".join(sorted(f"{name} above {threshold}" for name, threshold in recipes))
