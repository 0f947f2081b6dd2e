"""`sidestep audit`: a folder of training pictures and a model in, evidence out."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sidestep.cli._audit_options import audit_options, typed
from sidestep.cli._model import Chosen, model_options
from sidestep.cli._output import (
    Column,
    json_option,
    prepare,
    print_paths,
    print_table,
    progress,
    warn,
)
from sidestep.cli._pictures import outside
from sidestep.cli.main import Stopped

if TYPE_CHECKING:
    from sidestep.audit.evidence import Evidence, Share

CODES = {"pass": 0, "finding": 1, "inconclusive": 3}
FAILS = {"never": (), "finding": ("finding",), "inconclusive": ("finding", "inconclusive")}
SHOWN = 10  # findings printed


@click.command("audit")
@model_options
@audit_options
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="Folder of the audit; one that was stopped goes on.",
)
@click.option(
    "--fail-on",
    type=click.Choice(list(FAILS)),
    default="inconclusive",
    show_default=True,
    help="Which verdicts end in an exit code other than 0; inconclusive includes findings.",
)
@json_option
def command(model: Chosen, out: Path, fail_on: str, as_json: bool, **options: Any) -> None:
    """Audit a model against its training pictures.

    MODEL is the folder of a text-to-image pipeline of diffusers, the id of one on the Hub,
    `embedded` for the small model that comes with Sidestep, or `demo` for that model with its own
    training pictures. Each caption of the training set is sampled several times, every picture
    compared with every training picture, and what comes back is shown beside its source. If that
    is a finding, rules and mitigations are tried on it with the same seeds, and the cheapest that
    is enough is run on new ones.

    DIR/report.html is for people and DIR/audit.json for programs; `sidestep verify DIR` checks
    every file. Exit codes: 0 pass, 1 finding, 2 error, 3 inconclusive.
    """
    from sidestep.audit.run import audit
    from sidestep.cli._audit_options import request
    from sidestep.cli._engine import audit_engines
    from sidestep.web.evidence import write_evidence_report

    ctx, demo = click.get_current_context(), model.source == "demo"
    if demo:
        from sidestep.cli._audit_demo import prepared
    else:
        from sidestep.cli._audit_model import prepared
    for name in ("images", "controls"):
        if options[name] is not None:
            outside(out, options[name])
    subject, material = prepared(model, options)
    asked = request(demo, options)
    prepare(out)
    try:
        with progress() as report:
            evidence = audit(
                out,
                subject,
                material,
                asked,
                command=typed(ctx, model.source),
                present=write_evidence_report,
                engines=audit_engines(options["engine"], options["workers"]),
                report=report,
            )
    except KeyboardInterrupt as error:
        raise Stopped(f"What was made is kept in {out}; the same command goes on.") from error
    if as_json:
        click.echo((out / "audit.json").read_text(encoding="utf-8"))
    else:
        show(evidence, out)
    state = evidence.verdict.state
    ctx.exit(CODES[state] if state in FAILS[fail_on] else 0)


def show(evidence: "Evidence", out: Path) -> None:
    """The verdict, what it rests on and what helps, as text."""
    click.echo(f"{evidence.verdict.state.upper()}  {evidence.model.title}, {evidence.model.method}")
    for sentence in (*evidence.verdict.reasons, *evidence.verdict.settle):
        click.echo(f"  {sentence}")
    click.echo()
    groups = [*evidence.results.kinds]
    print_table(
        "Copies among the pictures made, in % with their 95 % interval",
        [
            Column("prompts", [g.name for g in groups], right=False),
            Column("n", [str(g.share.of) for g in groups]),
            Column("copies", [_share(g.share) for g in groups]),
        ],
    )
    if evidence.findings:
        rows = evidence.findings[:SHOWN]
        left = print_table(
            f"Training pictures that came back: {len(evidence.findings)}",
            [
                Column("picture", [f.training.path for f in rows], right=False, wrap=True),
                Column("in set", [str(f.training.times) for f in rows], 1),
                Column("caption", [f.prompts[0].name for f in rows], right=False, wrap=True),
                Column(
                    "copies", [f"{f.prompts[0].share.copies}/{f.prompts[0].share.of}" for f in rows]
                ),
                Column("similarity", [f"{f.similarity:.2f}" for f in rows], 2),
            ],
        )
        if left:
            click.echo(f"no room here for {', '.join(left)}: see the report")
    if (best := evidence.recommendation) is not None:
        word = "confirmed" if best.holds else "NOT confirmed"
        copies = _share(best.confirmed)
        click.echo(f"Recommended: {best.label}, {word} on new seeds: {copies} % copies")
        click.echo(f"  {best.why}")
        click.echo(f"  {best.command}")
    elif evidence.tried:
        warn(
            "nothing that was tried brings copies to the asked level: train for fewer steps or on "
            "more pictures, or let an audit in another folder --try all"
        )
    click.echo()
    print_paths({"report": out / "report.html", "evidence": out / "audit.json"})
    click.echo(f"`sidestep verify {out}` checks every file")


def _share(share: "Share") -> str:
    return f"{100 * share.share:.0f} [{100 * share.low:.0f}, {100 * share.high:.0f}]"
