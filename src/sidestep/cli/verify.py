"""`sidestep verify`: whether the files of an audit are as they were sealed."""

from pathlib import Path

import click

from sidestep.cli._output import json_option, print_json


@click.command("verify")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--expect",
    metavar="HASH",
    help="The hash that the bundle's maker named, from elsewhere than the bundle.",
)
@json_option
@click.pass_context
def command(ctx: click.Context, folder: Path, expect: str | None, as_json: bool) -> None:
    """Check that an audit's files are as they were sealed.

    DIR is a bundle: the folder that an audit wrote. Every file is compared with SHA256SUMS; one
    that was changed, added, removed or renamed is a finding. Without --expect, or a signature of
    SHA256SUMS, this shows that a bundle fits itself, and not that nobody wrote it anew. Exits with
    0 if all is as it was sealed, and with 1 and a sentence for each finding if not.
    """
    from sidestep.audit.bundle import check
    from sidestep.audit.recount import recount
    from sidestep.audit.reviews import problems

    found = check(folder, expect, [recount, problems])
    if as_json:
        print_json(
            {
                "holds": found.holds,
                "hash": found.hash,
                "expected": expect,
                "files": found.files,
                "bytes": found.size,
                "problems": list(found.problems),
                "not_covered": list(found.uncovered),
            }
        )
    elif found.holds:
        beside = f" (not covered: {', '.join(found.uncovered)})" if found.uncovered else ""
        click.echo(f"{found.files} files as they were sealed, hash {found.hash}{beside}")
    else:
        click.echo("\n".join(found.problems))
    ctx.exit(0 if found.holds else 1)
