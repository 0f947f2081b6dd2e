"""The HTML report of a run: one file that opens offline and asks the network for nothing.

Its content security policy forbids scripts and every outside address, and the template escapes
all text, so a report made from somebody else's records is safe to open.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from sidestep import registry
from sidestep.runs.records import Record, write_atomic
from sidestep.web import charts, words
from sidestep.web.cells import grids
from sidestep.web.drawing import Point
from sidestep.web.page import environment
from sidestep.web.run import Run, load

MAX_CURVES = 24  # drawn at most for one rule and kind of prompt
MAX_CHARTS = 24  # rules with a chart at most
# Not in the list of facts: they have places of their own, or are for comparisons.
OWN_PLACE = {"rules", "calibration", "versions", "references", "notes", "compared", "published"}


class Chart(NamedTuple):
    """Gap curves of one rule and the sentences under them."""

    rule: str
    svg: Markup
    said: list[str]


def write_report(run_folder: Path, out: Path | None = None) -> Path:
    """Write the report of a run folder; returns its path.

    Args:
        run_folder: as described in `sidestep.runs.records`.
        out: the file to write, `report.html` in the run folder if None.

    Raises:
        BadRecords: a file of the run is damaged; an earlier report is left as it was.
        OSError: the report cannot be written.
    """
    out = Path(run_folder) / "report.html" if out is None else Path(out)
    write_atomic(out, render(load(run_folder)))
    return out


def render(run: Run) -> str:
    """The report as text; the same run gives the same text."""
    templates = environment()
    templates.globals |= {
        "percent": words.percent, "share": words.share, "opened": words.opened,
        "KINDS": words.KINDS,
    }  # fmt: skip
    kind = words.headline_kind(run.summary)
    page = templates.get_template("report.html.j2").render(
        header=run.header,
        title=_title(run),
        verdict=words.verdict(run),
        notes=[*_listed(run.header.get("notes")), *run.notes],
        grids=grids(run),
        charts=gap_charts(run),
        charts_left_out=max(0, len(run.traces) - MAX_CHARTS),
        scatter=_scatter(run, kind),
        kind=kind,
        summary=_by_kind(run),
        texts=_texts(run),
        plain=words.plain_rule(run, kind) if kind else None,
        best=words.best_rule(run, kind) if kind else None,
        rules=_rules(run),
        methods={rule: rows[0].method for rule, rows in run.records.items()},
        facts=_facts(run.header),
        calibration=_table(run.header.get("calibration")),
        versions=_pairs(run.header.get("versions")),
        limits=words.limits(run),
        meta=_meta(run),
    )
    return page.rstrip("\n") + "\n"


def gap_charts(run: Run) -> list[Chart]:
    """A chart per rule with a trace, all on the same gap axis."""
    every = {
        rule: charts.curves(trace, run.records[rule])
        for rule, trace in list(run.traces.items())[:MAX_CHARTS]
    }
    top = charts.axis_top([c for kinds in every.values() for c in kinds.values()], MAX_CURVES)
    result = []
    for rule, kinds in every.items():
        name = f"gap over time under {rule}"
        svg = charts.gap_chart(kinds, top=top, shown=MAX_CURVES, name=name)
        said = [_opened(run.records[rule], kind, c) for kind, c in kinds.items()]
        if any(np.isnan(c.gap).any() for c in kinds.values()):
            said.append("No gap where the rule needed only one of the two predictions.")
        peaks = np.concatenate([_drawn(c).max(axis=0) for c in kinds.values()])
        if (peaks > top).any():
            leaving = words.count(int((peaks > top).sum()), "drawn sample")
            said.append(f"Out of the chart at the top: {leaving}, up to {peaks.max():.3g}.")
        result.append(Chart(rule, Markup(svg), said))
    return result


def _drawn(curves: charts.Curves) -> charts.Array:
    """The drawn gaps of a kind, 0 where none was measured."""
    return np.nan_to_num(curves.gap[:, curves.some(MAX_CURVES)])


def _opened(records: list[Record], kind: str, curves: charts.Curves) -> str:
    """What turned guidance on for the samples of a kind, and how many of them are drawn."""
    rows = [r for r in records if r.kind == kind]
    names = {
        "start": "guided from the start", "time": "on at the set time", "signal": "by signal",
        "fallback": "by fallback", "never": "never on",
    }  # fmt: skip
    by = [r.opened_by for r in rows]
    parts = [f"{by.count(key)} {name}" for key, name in names.items() if key in by]
    if set(by) == {"start"}:
        parts = [names["start"]]
    times = [r.transition_time for r in rows if r.transition_time is not None]
    if times and set(by) != {"start"}:
        parts.append(f"median time {float(np.median(times)):.2f}")
    drawn = len(curves.some(MAX_CURVES))
    parts.append(f"{drawn} of {len(rows)} samples drawn")
    return f"{words.KINDS[kind][0].capitalize()}: {', '.join(parts)}."


def _scatter(run: Run, kind: str | None) -> Markup | None:
    """Copies against agreement, or against an image-text score where no agreement is known."""
    if kind is None:
        return None
    rows = {rule: row[kind] for rule, row in run.summary.items() if kind in row}
    r5 = all(row["agreement_r5"] is not None for row in rows.values())
    name = next((n for n in _texts(run) if all(n in row["text"] for row in rows.values())), None)
    if not r5 and name is None:
        return None
    points = [
        Point(
            rule, row["copy_share"], row["copy_low"], row["copy_high"],
            row["agreement_r5"] if r5 else row["text"][name],
        )
        for rule, row in rows.items()
    ]  # fmt: skip
    ceiling = run.header.get("agreement_ceiling")
    top = ceiling.get("r5") if r5 and isinstance(ceiling, dict) else None
    return Markup(
        charts.scatter(
            points,
            ylabel="agreement with the prompt (R@5)" if r5 else str(name),
            share=r5,
            ceiling=float(top) if isinstance(top, int | float) else None,
            name=f"rules by share of copies and agreement, {words.KINDS[kind][0]}",
        )
    )


def _texts(run: Run) -> list[str]:
    """The image-text recipes of the run."""
    rows = [row for kinds in run.summary.values() for row in kinds.values()]
    return list(dict.fromkeys(name for row in rows for name in row["text"]))


def _by_kind(run: Run) -> dict[str, dict[str, dict[str, Any]]]:
    """{kind: {rule: row}} in the order of the kinds."""
    return {
        kind: rows
        for kind in words.KINDS
        if (rows := {rule: row[kind] for rule, row in run.summary.items() if kind in row})
    }


def _title(run: Run) -> str:
    model = run.header.get("model")
    name = model.get("name") if isinstance(model, dict) else model
    return f"Memorization report: {name}" if name else "Memorization report"


def _meta(run: Run) -> list[str]:
    """The line under the verdict."""
    header = run.header
    parts = [words.count(len(run.every), "picture")]
    if header.get("created"):
        parts.append(f"made {_when(header['created'])}")
    for key, form in (("seed", "seed {}"), ("steps", "{} steps"), ("scale", "scale {}")):
        if isinstance(header.get(key), int | float):
            parts.append(form.format(_value(header[key])))
    return parts


def _when(created: object) -> str:
    """A time stamp as people write it, other values as they are."""
    try:
        moment = datetime.fromisoformat(str(created)).astimezone(UTC)
    except ValueError:
        return _value(created)
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _rules(run: Run) -> list[dict[str, str]]:
    """What each rule is, from its first record."""
    known = {e.name: e for e in registry.entries()}
    result = []
    for rule, rows in run.records.items():
        entry = known.get(rows[0].method)
        about = f"{entry.summary} ({entry.source})" if entry else "not known to this version"
        settings = _value(rows[0].settings)
        result.append(
            {"rule": rule, "method": rows[0].method, "about": about, "settings": settings}
        )
    return result


def _facts(header: dict[str, Any]) -> list[tuple[str, str]]:
    names = {"created": "made", "scale": "guidance scale", "agreement_ceiling": "real drawings"}
    return [
        (names.get(key, key.replace("_", " ")), _value(value))
        for key, value in header.items()
        if key not in OWN_PLACE
    ]


def _pairs(value: object) -> list[tuple[str, str]]:
    return [(str(k), _value(v)) for k, v in value.items()] if isinstance(value, dict) else []


def _listed(value: object) -> list[str]:
    return [_value(v) for v in value] if isinstance(value, list) else []


def _table(value: object) -> dict[str, list[Any]]:
    """A list of objects as a heading and rows of text."""
    rows = [r for r in value if isinstance(r, dict)] if isinstance(value, list) else []
    heads = list(dict.fromkeys(key for row in rows for key in row))
    return {"heads": heads, "rows": [[_value(row.get(h)) for h in heads] for row in rows]}


def _value(value: object) -> str:
    """A JSON value in readable text."""
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}"
        case dict():
            return ", ".join(f"{k} {_value(v)}" for k, v in value.items())
        case list() | tuple():
            return ", ".join(_value(v) for v in value)
        case _:
            return str(value)
