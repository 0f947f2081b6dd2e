"""`sidestep review`: what people say of an audit's exhibits, put into its bundle."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sidestep.cli._output import json_option, print_json

if TYPE_CHECKING:
    from sidestep.audit.reviews import Review


@click.command("review")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument(
    "files", metavar="FILE...", type=click.Path(path_type=Path), nargs=-1, required=True
)
@json_option
def command(folder: Path, files: Sequence[Path], as_json: bool) -> None:
    """Put what people say of an audit's exhibits into its bundle.

    DIR is the folder that `sidestep audit` wrote, and each FILE what "Save reviews" in its report
    left. They are checked, written into reviews.json of the bundle and shown in its report, and the
    bundle is sealed again, so its hash changes. Nothing that was measured changes, nor does the
    verdict. What a reviewer says of an exhibit later replaces what they said before.
    """
    from sidestep.audit.evidence import Evidence
    from sidestep.audit.reviewing import review
    from sidestep.audit.reviews import exhibits
    from sidestep.audit.tally import OPINIONS, tally
    from sidestep.web.evidence import write_evidence_report

    done = review(folder, files, lambda bundle, made, out: write_evidence_report(bundle, out, made))
    merged = done.merged
    counts = tally(merged.reviews, len(exhibits(Evidence.read(folder))))
    if as_json:
        print_json(
            {
                "hash": done.hash,
                "hash_before": done.before,
                "added": len(merged.added),
                "replaced": [_pair(*pair) for pair in merged.replaced],
                "older": [_pair(*pair) for pair in merged.older],
                "exhibits": counts.exhibits,
                "reviewed": len(counts.opinions),
                **{f"called_{o.replace(' ', '_')}": counts.count(o) for o in OPINIONS},
                "several_reviewers": counts.several,
                "of_these_all_chose_the_same": counts.agreed,
            }
        )
        return
    for now, before in merged.replaced:
        click.echo(
            f"replaced  exhibit {now.exhibit}: {now.reviewer} says {now.choice}, and said "
            f"{before.choice} on {before.date}"
        )
    for came, stays in merged.older:
        click.echo(
            f"left out  exhibit {came.exhibit}: what {came.reviewer} said on {came.date} is older "
            f"than what stands there, of {stays.date}"
        )
    added = len(merged.added)
    click.echo(f"{added} new review{'' if added == 1 else 's'}, {len(merged.replaced)} replaced")
    said = ", ".join(f"{counts.count(o)} {o}" for o in OPINIONS)
    click.echo(f"{len(counts.opinions)} of {counts.exhibits} exhibits reviewed: {said}")
    changed = "as before" if done.hash == done.before else f"before {done.before}"
    click.echo(f"report    {folder / 'report.html'}")
    click.echo(f"hash      {done.hash} ({changed})")


def _pair(now: "Review", before: "Review") -> dict[str, str]:
    return {
        "exhibit": now.exhibit,
        "reviewer": now.reviewer,
        "choice": now.choice,
        "date": now.date,
        "other_choice": before.choice,
        "other_date": before.date,
    }
