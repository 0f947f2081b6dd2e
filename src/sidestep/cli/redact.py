"""`sidestep redact`: an edition of an audit for third parties."""

from pathlib import Path
from typing import Literal

import click

from sidestep.cli._output import json_option, print_json


@click.command("redact")
@click.argument("bundle", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--mode",
    type=click.Choice(["blur", "hashes"]),
    required=True,
    help="blur: prompts and blurred pictures; hashes: neither, commitments in their place.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR2",
    help="Folder of the edition; empty or not there.",
)
@json_option
def command(bundle: Path, mode: Literal["blur", "hashes"], out: Path, as_json: bool) -> None:
    """Make an edition of an audit that may be shown to third parties.

    DIR is the folder that `sidestep audit` wrote. The edition keeps every number, and names the
    full bundle that it was made from. What it replaces is in DIR2.openings.jsonl, beside
    the edition: keep that file, and hand over a line of it to prove what stands behind a hash.
    """
    from sidestep.audit.bundle import seal
    from sidestep.audit.edition import write_edition
    from sidestep.web.evidence import write_evidence_report

    openings = write_edition(bundle, out, mode)
    report = write_evidence_report(out)
    seal(out)
    if as_json:
        print_json({"edition": str(out), "report": str(report), "openings": str(openings)})
        return
    click.echo(f"edition   {out}")
    click.echo(f"report    {report}")
    click.echo(f"openings  {openings}  (yours: do not hand it over)")
