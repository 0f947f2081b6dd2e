"""An index as what generated pictures are scored against."""

from collections.abc import Collection, Sequence

import numpy as np
from PIL import Image

from sidestep.audit.index import Index
from sidestep.similarity.base import Images, Recipe, Vectors
from sidestep.similarity.search import nearest
from sidestep.sources.pictures import framed


class Framed:
    """A recipe that sees pictures as the index's pictures were seen: framed to its side.

    Attributes:
        name: of the recipe; the side belongs to the index.
        fingerprint: of the recipe's model.
    """

    def __init__(self, recipe: Recipe, side: int) -> None:
        self.recipe, self.side = recipe, side
        self.name, self.fingerprint = recipe.name, getattr(recipe, "fingerprint", "")

    def embed(self, images: Images) -> Vectors:
        """Pictures (N, H, W, 3) to the index's features (N, D)."""
        return self.recipe.embed(
            np.stack([framed(Image.fromarray(image), self.side) for image in images])
        )


class Indexed:
    """The training pictures of an index; a `runs.score.Training`."""

    def __init__(self, index: Index, recipe: Recipe, own: Collection[int] = ()) -> None:
        """Raises BadRecords unless the index is of that recipe.

        `own` are the rows that `closest` is asked for; their features stay in memory.
        """
        index.check_recipe(recipe)
        self.index = index
        self.recipes: tuple[Recipe, ...] = (Framed(recipe, index.settings.side),)
        self._own = rows(index, own)

    def nearest(self, recipe: Recipe, rows: Vectors) -> tuple[list[str], list[float]]:
        """Ids and similarities of the training pictures nearest to (N, D) features."""
        found = self.index.search(rows, 1)
        return [str(i) for i in found.ids[:, 0]], [float(s) for s in found.similarity[:, 0]]

    def closest(self, recipe: Recipe, row: Vectors, own: Sequence[int]) -> float:
        """The highest similarity of a feature (D,) to those training pictures, by row."""
        top, _ = nearest(row[None], np.stack([self._own[number] for number in own]))
        return float(top[0, 0])


def rows(index: Index, numbers: Collection[int]) -> dict[int, Vectors]:
    """Features (D,) of some rows of an index, by number."""
    found, wanted = dict[int, Vectors](), np.array(sorted(numbers), dtype=np.int64)
    for block in index.rows() if len(wanted) else ():
        inside = wanted[(wanted >= block.first) & (wanted < block.first + len(block.rows))]
        for number in inside:
            found[int(number)] = block.rows[number - block.first].astype(np.float32)
    return found
