"""`sidestep search`: the training pictures nearest to given ones."""

from pathlib import Path

import click

from sidestep.cli._output import Column, json_option, print_json, print_table
from sidestep.errors import BadData


@click.command("search")
@click.argument("folder", metavar="INDEX", type=click.Path(path_type=Path))
@click.argument(
    "images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--k", type=click.IntRange(1), default=3, show_default=True, help="Nearest ones to print."
)
@json_option
def command(folder: Path, images: tuple[Path, ...], k: int, as_json: bool) -> None:
    """Find the training pictures nearest to given ones, exactly.

    INDEX is a folder that `sidestep index` wrote; its recipe embeds the images, framed as the
    training pictures were. Similarities compare under one recipe only, and what makes a copy
    depends on the pictures: no threshold is applied here.
    """
    import numpy as np

    from sidestep.audit.index import open_index
    from sidestep.audit.recipes import recipe_of
    from sidestep.sources import pictures

    index = open_index(folder)
    recipe, side = recipe_of(index), index.settings.side
    framed = []
    for path in images:
        try:
            framed.append(pictures.read(path, side))
        except pictures.Refused as why:
            raise BadData(f"{path} cannot be searched for: {why}") from why
    found = index.search(recipe.embed(np.stack(framed)), k)
    wanted = set(found.ids.ravel().tolist())
    there = {p.id: p for p in index.pictures() if p.id in wanted}
    rows = [
        {
            "image": str(path),
            "place": place + 1,
            "similarity": float(found.similarity[row, place]),
            "id": str(found.ids[row, place]),
            "path": there[str(found.ids[row, place])].path,
            "caption": there[str(found.ids[row, place])].caption,
        }
        for row, path in enumerate(images)
        for place in range(k)
    ]
    if as_json:
        facts = {"recipe": recipe.name, "index": index.hash, "pictures": len(index.ids)}
        print_json(facts | {"found": rows})
        return
    left = print_table(
        f"Nearest of {len(index.ids)} training pictures under {recipe.name}",
        [
            Column("image", [Path(str(r["image"])).name for r in rows], right=False, wrap=True),
            Column("similarity", [f"{r['similarity']:.3f}" for r in rows]),
            Column("id", [str(r["id"]) for r in rows], right=False),
            Column("path", [str(r["path"]) for r in rows], 1, right=False, wrap=True),
            Column("caption", [str(r["caption"] or "") for r in rows], 2, right=False, wrap=True),
        ],
    )
    if left:
        click.echo(f"no room here for {', '.join(left)}: see --json")
