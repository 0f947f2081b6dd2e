"""`sidestep report`: the HTML report of a run folder or of an audit."""

import hashlib
from pathlib import Path

import click

from sidestep.cli._output import json_option, print_json
from sidestep.errors import BadBundle, BadRecords


@click.command("report")
@click.argument("run", metavar="RUN_OR_RECORDS", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The report's file.  [default: report.html in the run folder]",
)
@json_option
def command(run: Path, out: Path | None, as_json: bool) -> None:
    """Write the HTML report of a run or an audit.

    RUN_OR_RECORDS is the folder that `sidestep demo`, `sample`, `bench run` or `audit` wrote, or
    a run's records.jsonl. The report is one file that opens without a network. In a sealed audit
    only the same bytes are written; another version's report goes elsewhere, with --out.
    """
    audited = (run / "audit.json").is_file()
    folder = run if audited else run_folder(run)
    if out is not None and out.is_dir():
        raise click.BadParameter(
            f"{out} is a folder; give the name of a file, such as {out / 'report.html'}",
            param_hint="--out",
        )
    if audited:
        _audit(folder, out, as_json)
        return
    from sidestep.runs import records

    # Read before writing, so that a damaged file leaves an earlier report as it is.
    rows = records.read(folder / "records.jsonl")
    from sidestep.web.report import write_report

    path = write_report(folder, out)
    if as_json:
        print_json({"report": str(path), "records": len(rows)})
        return
    rules = dict.fromkeys(r.rule for r in rows)
    several = "" if len(rules) == 1 else "s"
    click.echo(f"{len(rows)} pictures, {len(rules)} rule{several}")
    click.echo(f"report    {path}")


def _audit(folder: Path, out: Path | None, as_json: bool) -> None:
    """Write an audit's report and say what it is about."""
    from sidestep.audit import reviews
    from sidestep.audit.evidence import Evidence
    from sidestep.web.evidence import render, write_evidence_report

    evidence = Evidence.read(folder)
    path = out or folder / "report.html"
    made = render(evidence, folder, reviews.read(folder))
    if not _keeps(folder, path, made.encode("utf-8")):
        raise BadBundle(
            f"{folder} is sealed, and {path} would be another file than its SHA256SUMS says; give "
            "--out with a file outside of it"
        )
    write_evidence_report(folder, path)
    state, findings = evidence.verdict.state, len(evidence.findings)
    if as_json:
        print_json({"report": str(path), "state": state, "findings": findings})
        return
    click.echo(f"{state}, {findings} training picture{'' if findings == 1 else 's'} came back")
    click.echo(f"report    {path}")


def _keeps(bundle: Path, path: Path, data: bytes) -> bool:
    """Whether a bundle is what its list says after such a file is written."""
    from sidestep.audit import sums

    listed = bundle / sums.NAME
    if not listed.is_file() or not path.resolve().is_relative_to(bundle.resolve()):
        return True
    name = path.resolve().relative_to(bundle.resolve()).as_posix()
    return sums.from_bytes(listed.read_bytes()).get(name) == hashlib.sha256(data).hexdigest()


def run_folder(run: Path) -> Path:
    """The run folder of a path to it or to its records; raises BadRecords for anything else."""
    if not run.exists():
        raise BadRecords(f"{run} does not exist; give the folder of a run or its records.jsonl")
    if run.is_dir():
        if not (run / "records.jsonl").is_file():
            raise BadRecords(
                f"the folder {run} has no records.jsonl; give the folder that "
                "`sidestep demo`, `sample` or `bench run` wrote"
            )
        return run
    if run.name != "records.jsonl":
        raise BadRecords(
            f"{run} is not called records.jsonl; a report needs the whole run folder with its "
            "run.json and pictures, so give that folder or the records.jsonl in it"
        )
    return run.parent
