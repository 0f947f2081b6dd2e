"""What stops the copies that were found, tried with the same seeds, and the cheapest of it.

A candidate is enough if its share of copies, on the prompts that gave copies and with the seeds
that gave them, is at most the asked level. Among those the price decides, in this order: what it
costs in agreement with the prompt, on findings and on ordinary prompts together, where differences
below HARM count as none; network evaluations; copies left. Where nothing measures agreement, how
far it moves ordinary pictures takes its place. The seeds it was chosen on flatter it, so new seeds
have to confirm it; if they do not, the next one is tried.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from scipy.stats import binomtest

from sidestep.audit import names
from sidestep.audit.candidates import Candidates, unfit
from sidestep.audit.evidence import Change, Recommendation, Share, Tried
from sidestep.audit.findings import share
from sidestep.audit.spelling import options, python
from sidestep.runs.generate import Job, Method, Model
from sidestep.runs.paired import changes_to, pairs_of
from sidestep.runs.records import Record

HARM = 0.05  # of agreement, in its own unit: smaller losses are within what chance does here
CONFIRMED = 8  # candidates whose confirmation is tried at most

# Makes pictures into a part of the audit: (part, jobs, methods, seed) to scored records.
Make = Callable[[str, Sequence[Job], Sequence[Method], int], list[Record]]


class Question(NamedTuple):
    """What a remedy is looked for with."""

    model: Model
    audited: Method
    findings: Sequence[Job]  # made with the audited setting already, some of them copies
    ordinary: Sequence[Job]
    confirm: Sequence[Job]  # to be made from new seeds
    level: float
    seed: int  # of the audit
    new_seed: int  # of the confirmation
    command: str  # the audit's own, to which a setting is added


class Remedy(NamedTuple):
    """What was tried and what is recommended, None where nothing was enough."""

    tried: tuple[Tried, ...]
    recommendation: Recommendation | None
    records: dict[str, list[Record]]  # by part of the audit

    @property
    def confirmed(self) -> list[Record]:
        """The pictures of the recommended setting, from new seeds."""
        best = self.recommendation
        return [] if best is None else names.confirmed(self.records, best.label)


def find(question: Question, known: Candidates, make: Make) -> Remedy:
    """Try every candidate that fits the model."""
    prompt = question.findings[0].prompt
    ready = {c.label: c.method(question.audited.scale) for c in known.candidates}
    refused = {label: unfit(question.model, how, prompt) for label, how in ready.items()}
    fit = [how for label, how in ready.items() if refused[label] is None]
    made = make(names.TRIED, question.findings, [question.audited, *fit], question.seed)
    parts, on_findings = {names.TRIED: made}, _by_label(made)
    tried = _on_findings(question, fit, on_findings)
    enough = [how for how in fit if tried[how.label].enough]
    if enough and question.ordinary:
        methods = [question.audited, *enough]
        made = make(names.ORDINARY, question.ordinary, methods, question.seed)
        parts[names.ORDINARY] = made
        tried |= _on_ordinary(question, enough, tried, _by_label(made))
    order = sorted(enough, key=lambda how: price(tried[how.label]))
    before, recommendation = share(on_findings[question.audited.label]), None
    for number, how in enumerate(order[:CONFIRMED], start=1):
        part = names.confirmation(number)
        rows = parts[part] = make(part, question.confirm, [how], question.new_seed)
        tried[how.label] = msgspec.structs.replace(tried[how.label], confirmed=share(rows))
        found = _recommend(question, how, tried[how.label], before, share(rows))
        # Where none holds, the one with the fewest copies is shown as not confirmed.
        if recommendation is None or found.confirmed.share < recommendation.confirmed.share:
            recommendation = found
        if found.holds:
            break
    others = [
        Tried(label=label, name=how.name, settings=how.settings, unfit=refused[label])
        for label, how in ready.items()
        if refused[label] is not None
    ] + [Tried(label=name, name=name, settings={}, unfit=why) for name, why in known.needs.items()]
    return Remedy(tuple([*tried.values(), *others]), recommendation, parts)


def price(one: Tried) -> tuple[float, float, float]:
    """What a candidate costs, lowest first; see the head of this file."""
    lost = [-c.mean for c in (one.agreement, one.ordinary) if c is not None]
    harm = sum(max(0.0, loss) for loss in lost) if lost else one.change or 0.0
    evaluations = (one.nfe or 0.0) + 2 * (one.backward or 0.0)
    left = one.findings.share if one.findings else 1.0
    return HARM * (harm // HARM), evaluations, left


def mcnemar(rows: Sequence[Record], before: Sequence[Record]) -> float:
    """The exact p-value of a change in copies over pairs of the same prompt and draw.

    Source: McNemar, Psychometrika, 1947; the binomial test on the pairs that differ.
    """
    pairs = [(bool(a.copy), bool(b.copy)) for a, b in pairs_of(rows, before)]
    gone = sum(b and not a for a, b in pairs)
    come = sum(a and not b for a, b in pairs)
    return float(binomtest(gone, gone + come).pvalue) if gone + come else 1.0


def measure(records: Sequence[Record]) -> str | None:
    """What says how well pictures fit their prompts: R@5 of concepts, else an image-text score."""
    if records and all(r.agreement is not None for r in records):
        return "agreement_r5"
    known = [n for n in records[0].text if all(n in r.text for r in records)] if records else []
    return known[0] if known else None


Rows = Mapping[str, list[Record]]  # by label of the method


def _on_findings(question: Question, fit: Sequence[Method], rows: Rows) -> dict[str, Tried]:
    before = rows[question.audited.label]
    result = {}
    for how in fit:
        own = rows[how.label]
        copies = share(own)
        result[how.label] = Tried(
            label=how.label,
            name=how.name,
            settings=how.settings,
            findings=copies,
            p_value=mcnemar(own, before),
            agreement=_change(own, before),
            nfe=float(np.mean([r.nfe for r in own])),
            backward=float(np.mean([r.backward for r in own])),
            enough=copies.share <= question.level,
        )
    return result


def _on_ordinary(
    question: Question, enough: Sequence[Method], tried: Mapping[str, Tried], rows: Rows
) -> dict[str, Tried]:
    before = rows[question.audited.label]
    return {
        how.label: msgspec.structs.replace(
            tried[how.label],
            ordinary=_change(rows[how.label], before),
            change=_moved(rows[how.label]),
        )
        for how in enough
    }


def _recommend(
    question: Question, how: Method, one: Tried, before: Share, copies: Share
) -> Recommendation:
    return Recommendation(
        label=how.label,
        name=how.name,
        settings=how.settings,
        why=_why(one),
        seed=question.new_seed,
        before=before,
        confirmed=copies,
        holds=copies.share <= question.level,
        python=python(how),
        command=f"{question.command} {options(how)}",
    )


def _why(one: Tried) -> str:
    parts = []
    for change, where in ((one.agreement, "findings"), (one.ordinary, "ordinary prompts")):
        if change is not None:
            parts.append(
                f"agreement on {where} {change.mean:+.2f} [{change.low:+.2f}, {change.high:+.2f}]"
            )
    if not parts and one.change is not None:
        parts.append(f"moves ordinary pictures by {one.change:.2f} of 1")
    parts.append(f"{one.nfe:.0f} network evaluations per picture")
    return "the lowest price among those that were enough: " + ", ".join(parts)


def _change(rows: Sequence[Record], before: Sequence[Record]) -> Change | None:
    name = measure([*rows, *before])
    changes = changes_to(rows, before)
    if name is None or changes is None or name not in changes:
        return None
    found = changes[name]
    return Change(mean=found.mean, low=found.low, high=found.high)


def _moved(rows: Sequence[Record]) -> float | None:
    moved = [r.change for r in rows if r.change is not None]
    return float(np.mean(moved)) if len(moved) == len(rows) else None


def _by_label(records: Sequence[Record]) -> dict[str, list[Record]]:
    rows = dict[str, list[Record]]()
    for record in records:
        rows.setdefault(record.rule, []).append(record)
    return rows
