"""`sidestep cite`: the BibTeX of methods."""

import click

from sidestep import registry
from sidestep.citations import bibtex
from sidestep.errors import SidestepError


@click.command("cite")
@click.argument("names", metavar="METHOD...", nargs=-1, required=True)
def command(names: tuple[str, ...]) -> None:
    """Print the BibTeX entries of methods.

    METHOD is a name that `sidestep methods` lists. Methods of one paper are printed once; for what
    is Sidestep's own the entry is that of Sidestep.
    """
    try:
        keys = dict.fromkeys(registry.get(name).cite for name in names)
    except SidestepError as error:
        raise click.BadParameter(str(error), param_hint="METHOD") from None
    click.echo("\n\n".join(bibtex(key) for key in keys))
