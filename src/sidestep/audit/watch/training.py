"""Training pictures as a watch compares with them: an index, a folder, or pictures in memory."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sidestep.audit.index import SETTINGS, Index, open_index
from sidestep.audit.recipes import recipe, recipe_of
from sidestep.errors import BadData
from sidestep.similarity.base import Images, Recipe, Vectors
from sidestep.similarity.search import nearest
from sidestep.sources import pictures
from sidestep.sources.collection import open_collection

Picture = Image.Image | NDArray[np.uint8]
Source = Index | str | Path | Sequence[tuple[Picture, str]]
CHUNK = 64  # pictures embedded at once


class Nearest(NamedTuple):
    """The training picture nearest to each of some pictures."""

    similarity: NDArray[np.float64]  # (N,)
    rows: list[int]  # numbers of training pictures, (N,)


class Training(Protocol):
    """Training pictures by number, seen by one recipe."""

    recipe: Recipe
    side: int  # pixels of the square that they are framed to
    hash: str  # stands for all pictures and captions
    ids: list[str]
    captions: list[str | None]

    def nearest(self, images: Images) -> Nearest:
        """The nearest of each picture (N, side, side, 3)."""
        ...

    def picture(self, row: int) -> Images | None:
        """A training picture to show, if there are pixels of it."""
        ...


def open_training(source: Source, side: int | None, chosen: Recipe | str | None) -> Training:
    """The training pictures of a source.

    Args:
        source: an `Index`, the folder of one, any collection that can be indexed, or pairs of a
            picture and its caption.
        side: pixels to frame pictures to; an index has its own.
        chosen: a recipe or its name; None = that of the index, else SSCD.

    Raises:
        BadData: there is no picture, or one cannot be read.
        BadRecords: the index is unfinished, or of another recipe.
        ValueError: no side, or another than that of the index.
        MissingExtra: the recipe, or reading such a source, needs a package.
    """
    if isinstance(source, str | Path) and (Path(source) / SETTINGS).is_file():
        source = open_index(source)
    named = recipe(chosen) if isinstance(chosen, str) else chosen
    if isinstance(source, Index):
        return Indexed(source, side, named)
    if side is None:
        raise ValueError(
            "resolution is missing; give the side of the training's pictures in pixels"
        )
    return InMemory(source, side, named or recipe("sscd"))


class Indexed:
    """The pictures of an index: ids, captions and features, no pixels."""

    def __init__(self, index: Index, side: int | None, chosen: Recipe | None) -> None:
        """Raises BadRecords for another recipe, ValueError for another side."""
        if side not in (None, index.settings.side):
            raise ValueError(
                f"resolution is {side}, and the index in {index.folder} has side "
                f"{index.settings.side}; similarities of other sizes do not compare. Index the "
                "pictures at that side"
            )
        self.recipe = chosen or recipe_of(index)
        index.check_recipe(self.recipe)
        self.index, self.side, self.hash = index, index.settings.side, index.hash
        there = [p for p in index.pictures() if p.status == "ok"]
        if not there:
            raise BadData(f"the index in {index.folder} has no readable picture")
        self.ids = [p.id for p in there]
        self.captions = [p.caption for p in there]
        self._rows = {name: row for row, name in enumerate(self.ids)}

    def nearest(self, images: Images) -> Nearest:
        """Exactly, shard by shard."""
        found = self.index.search(_embedded(self.recipe, images), 1)
        return Nearest(
            found.similarity[:, 0].astype(np.float64),
            [self._rows[str(name)] for name in found.ids[:, 0]],
        )

    def picture(self, row: int) -> None:
        """An index keeps no pixels."""
        return None


class InMemory:
    """Pictures that are kept whole: those of one fine-tuning."""

    def __init__(
        self, source: str | Path | Sequence[tuple[Picture, str]], side: int, recipe: Recipe
    ) -> None:
        """Read, frame and embed them; BadData for none, or one that cannot be read."""
        rows = list(_read(source, side))
        if not rows:
            raise BadData("there is no training picture to compare with; give at least one")
        self.recipe, self.side = recipe, side
        self.ids = [name for name, _, _ in rows]
        self.captions: list[str | None] = [caption for _, _, caption in rows]
        self._images = np.stack([image for _, image, _ in rows])
        self._vectors = _embedded(recipe, self._images)
        said = "\x1f".join(caption or "" for caption in self.captions)
        self.hash = hashlib.sha256(self._images.tobytes() + said.encode()).hexdigest()

    def nearest(self, images: Images) -> Nearest:
        """By comparing with all."""
        top, rows = nearest(_embedded(self.recipe, images), self._vectors)
        return Nearest(top[:, 0].astype(np.float64), rows[:, 0].tolist())

    def picture(self, row: int) -> Images:
        """As training saw it."""
        shown: Images = self._images[row]
        return shown


def framed(source: str | Path | Sequence[Any], side: int) -> Images:
    """Pictures without captions, (N, side, side, 3): a collection, or a sequence of pictures.

    Raises BadData as `open_training` does.
    """
    if not isinstance(source, str | Path):
        source = [(picture, "") for picture in source]
    rows = [image for _, image, _ in _read(source, side)]
    if not rows:
        raise BadData("there is no picture to calibrate with; give some that were never trained on")
    return np.stack(rows)


def _read(
    source: str | Path | Sequence[tuple[Picture, str]], side: int
) -> Iterator[tuple[str, Images, str | None]]:
    if isinstance(source, str | Path):
        yield from _collected(str(source), side)
        return
    for number, (picture, caption) in enumerate(source):
        whole = picture if isinstance(picture, Image.Image) else _of_array(picture)
        upright = pictures.upright(whole).convert("RGB")
        yield str(number), pictures.framed(upright, side), caption


def _collected(source: str, side: int) -> Iterator[tuple[str, Images, str | None]]:
    for item in open_collection(source).items():
        try:
            if isinstance(item.data, str):
                raise pictures.Refused(item.data)
            data = pictures.content(item.data) if isinstance(item.data, Path) else item.data
            yield item.path, pictures.decode(data, side), item.caption
        except pictures.Refused as why:
            # Left out, its copies would count as something new.
            raise BadData(f"{item.path} of {source} cannot be read: {why}") from why


def _of_array(picture: Any) -> Image.Image:
    if getattr(picture, "dtype", None) != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(
            f"a picture came as {type(picture).__name__}; give PIL images or uint8 arrays (H, W, 3)"
        )
    return Image.fromarray(picture)


def _embedded(recipe: Recipe, images: Images) -> Vectors:
    rows: Iterable[Images] = iter(images)
    parts = []
    while part := list(islice(rows, CHUNK)):
        parts.append(recipe.embed(np.stack(part)))
    return np.concatenate(parts)
