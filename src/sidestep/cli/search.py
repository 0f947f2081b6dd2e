"""`sidestep search`: the training pictures nearest to given ones."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sidestep.cli._output import Column, json_option, print_json, print_table
from sidestep.errors import BadData

if TYPE_CHECKING:
    from sidestep.audit.index import Index
    from sidestep.similarity.base import Images, Recipe
    from sidestep.sources.windows import Window


@click.command("search")
@click.argument("folder", metavar="INDEX", type=click.Path(path_type=Path))
@click.argument(
    "images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--k",
    type=click.IntRange(1),
    help="Nearest ones to print, of an index of whole pictures.  [default: 3]",
)
@json_option
def command(folder: Path, images: tuple[Path, ...], k: int | None, as_json: bool) -> None:
    """Find the training pictures nearest to given ones, exactly.

    INDEX is a folder that `sidestep index` wrote; its recipe embeds the images, framed as the
    training pictures were. Similarities compare under one recipe only, and what makes a copy
    depends on the pictures: no threshold is applied here.

    In an index of tiles every window of an image is searched for, and the most similar pair of a
    window and a tile is printed; windows are left, top and side in percent of the picture.
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
    if index.settings.tiles is not None:
        if k is not None:
            raise click.UsageError(
                "--k is for an index of whole pictures; one of tiles gives the most similar pair "
                "of each image. Leave it out."
            )
        _local(index, recipe, images, np.stack(framed), as_json)
        return
    k = k or 3
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


def _local(
    index: "Index", recipe: "Recipe", paths: tuple[Path, ...], framed: "Images", as_json: bool
) -> None:
    """The most similar pair of each image, from an index of tiles."""
    from sidestep.audit.local import nearest_tiles

    found = nearest_tiles(framed, index, recipe)
    if as_json:
        facts = {"recipe": recipe.name, "index": index.hash, "tiles": len(index.ids)}
        rows = [
            {"image": str(path)} | ({"similarity": None} if match is None else match.to_dict())
            for path, match in zip(paths, found, strict=True)
        ]
        print_json(facts | {"found": rows})
        return
    left = print_table(
        f"Nearest of {len(index.ids)} tiles under {recipe.name}",
        [
            Column("image", [p.name for p in paths], right=False, wrap=True),
            Column("similarity", [f"{m.similarity:.3f}" if m else "none" for m in found]),
            Column("window", [_percent(m.here) if m else "" for m in found]),
            Column("path", [m.path if m else "" for m in found], right=False, wrap=True),
            Column("its window", [_percent(m.there) if m else "" for m in found]),
        ],
    )
    if left:
        click.echo(f"no room here for {', '.join(left)}: see --json")


def _percent(window: "Window") -> str:
    return ", ".join(f"{100 * share:.0f}" for share in window)
