"""`sidestep search`: the training pictures nearest to given ones."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sidestep.cli._engine import engine_options, ray_workers
from sidestep.cli._methods import recipe_option
from sidestep.cli._output import Column, json_option, print_json, print_table
from sidestep.errors import BadData

if TYPE_CHECKING:
    from sidestep.audit.index import Index
    from sidestep.audit.recall import Level
    from sidestep.similarity.base import Images, Recipe
    from sidestep.sources.base import Collection
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
@click.option(
    "--source",
    metavar="SOURCE",
    help="The training pictures as they were indexed; an index of tiles needs them.",
)
@click.option("--image-column", help="Images of SOURCE, where it is a table.  [default: image]")
@recipe_option(None, help="That of the index, where its name alone does not make it.")
@engine_options
@click.option(
    "--approximate",
    "way",
    type=click.Choice(["compressed", "pruned"]),
    help="Let FAISS propose from codes or from lists; prints the recall measured in this run.",
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where --approximate keeps what it made of the index: a folder that only you write to.",
)
@json_option
def command(
    folder: Path,
    images: tuple[Path, ...],
    k: int | None,
    source: str | None,
    image_column: str | None,
    recipe: dict[str, Any] | None,
    engine: str,
    workers: int | None,
    way: str | None,
    cache: Path | None,
    as_json: bool,
) -> None:
    """Find the training pictures nearest to given ones, exactly unless told otherwise.

    INDEX is a folder that `sidestep index` wrote; its recipe embeds the images, framed as the
    training pictures were. Similarities compare under one recipe only, and what makes a copy
    depends on the pictures: no threshold is applied here.

    An index of tiles proposes which parts of which training pictures an image may hold, and the
    pixels of --source decide: printed is the part of each image that is most similar to a part of
    a training picture. Windows are left, top and side in percent of the picture.
    """
    spread = ray_workers(engine, workers)
    if image_column is not None and source is None:
        raise click.UsageError("--image-column is of --source; add --source")
    if way is not None and spread is not None:
        raise click.UsageError("--approximate searches in this process; leave out --engine ray")
    if cache is not None and way is None:
        raise click.UsageError("--cache is of approximate search; add --approximate")
    import numpy as np

    from sidestep.audit import recipes
    from sidestep.audit.index import open_index
    from sidestep.sources import pictures

    index = open_index(folder)
    given = None if recipe is None else recipes.recipe(**recipe)
    made, side = recipes.recipe_of(index, given), index.settings.side
    framed = []
    for path in images:
        try:
            framed.append(pictures.read(path, side))
        except pictures.Refused as why:
            raise BadData(f"{path} cannot be searched for: {why}") from why
    if index.settings.tiles is not None:
        if k is not None or way is not None or spread is not None:
            raise click.UsageError(
                "--k is for an index of whole pictures, as --approximate and --engine ray are; one "
                "of tiles gives the most similar part of each image. Leave it out."
            )
        if source is None:
            raise click.UsageError(
                "in an index of tiles the training pictures themselves decide; give them with "
                "--source as they were given to `sidestep index`"
            )
        _local(index, made, _training(source, image_column), images, np.stack(framed), as_json)
        return
    if source is not None:
        raise click.UsageError("--source is for an index of tiles; this one is of whole pictures")
    k = k or 3
    features, levels = made.embed(np.stack(framed)), tuple["Level", ...]()
    if way is not None:
        from sidestep.audit.approximate import Approximate

        found, levels = Approximate.of(index, way, cache).search(features, k)
    elif spread is not None:
        from sidestep.audit.on_ray import on_ray

        found = index.search(features, k, on_ray(spread))
    else:
        found = index.search(features, k)
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
        facts = {"recipe": made.name, "index": index.hash, "pictures": len(index.ids)}
        facts["search"] = way or "exact"
        recalled = {"recall": [level._asdict() for level in levels]} if levels else {}
        print_json(facts | recalled | {"found": rows})
        return
    left = print_table(
        f"Nearest of {len(index.ids)} training pictures under {made.name}",
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
    if way:
        _show(levels, way)


def _show(levels: "tuple[Level, ...]", way: str) -> None:
    """The recall as text."""
    print_table(
        f"Recall of {way} search on planted copies, with 95 % bounds",
        [
            Column("cosine", [f"{level.cosine:g}" for level in levels]),
            Column("found", [f"{level.found} of {level.of}" for level in levels]),
            Column("at least", [f"{level.low:.3f}" for level in levels]),
            Column("at most", [f"{level.high:.3f}" for level in levels]),
        ],
    )


def _training(source: str, image_column: str | None) -> "Collection":
    from sidestep.sources.base import Columns
    from sidestep.sources.collection import open_collection

    return open_collection(source, Columns(image_column) if image_column else None)


def _local(
    index: "Index",
    recipe: "Recipe",
    training: "Collection",
    paths: tuple[Path, ...],
    framed: "Images",
    as_json: bool,
) -> None:
    """The part of each image that is most similar to a part of a training picture."""
    from sidestep.audit.local import Tiled, nearest_parts
    from sidestep.similarity.structured import Structured

    assert isinstance(recipe, Structured)  # that of every index of tiles
    found = nearest_parts(framed, Tiled(index, training, recipe))
    if as_json:
        facts = {"recipe": recipe.name, "index": index.hash, "tiles": len(index.ids)}
        rows = [
            {"image": str(path)} | ({"similarity": None} if match is None else match.to_dict())
            for path, match in zip(paths, found, strict=True)
        ]
        print_json(facts | {"found": rows})
        return
    left = print_table(
        f"Nearest parts, proposed by {len(index.ids)} tiles under {recipe.name}",
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
