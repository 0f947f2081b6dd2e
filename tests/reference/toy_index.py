"""Small indexes: of pictures, in a process of its own to be killed, and of given rows."""

from pathlib import Path

import numpy as np

from sidestep.audit import shards
from sidestep.audit.blocks import Block
from sidestep.audit.build import build_index
from sidestep.audit.embedding import here
from sidestep.audit.embedding_on_ray import on_ray
from sidestep.audit.index import COMPLETE, SETTINGS, Settings
from sidestep.audit.shards import Picture
from sidestep.runs import marks
from sidestep.similarity.pixels import Pixels
from sidestep.sources.collection import open_collection


def build(source, out, recipe=Pixels(4), **settings):  # noqa: B008 has no state
    """Index a folder in shards of 5 pictures, embedded 2 at a time."""
    given = {"side": 16, "batch": 2, "pictures_per_shard": 5, "engine": here(workers=1)}
    collection = open_collection(str(source))
    return build_index(collection, Path(out), recipe, **given | settings)


def write_rows(out, rows, size, recipe="rows", side=1):
    """An index of rows (N, D), float16, in shards of that many, as if pictures had given them."""
    settings = Settings(recipe, "", side, rows.shape[1], size)
    marks.put(out, SETTINGS, settings.text.encode())
    files = []
    for number, first in enumerate(range(0, len(rows), size)):
        part = rows[first : first + size]
        facts = [
            Picture(f"{first + i:024}", f"{first + i}.png", "", 0, "ok", "", None)
            for i in range(len(part))
        ]
        shard = shards.write(out, settings.id, number, facts, part)
        files.append(marks.file(out, shard.mark))
    marks.vouch(out, COMPLETE, settings.id, files)


class Rows:
    """Features in blocks, as an index gives them."""

    def __init__(self, rows, size):
        self._rows, self._size = rows, size
        self.ids = np.arange(len(rows)).astype("U24")

    def rows(self):
        for first in range(0, len(self._rows), self._size):
            yield Block(first, self._rows[first : first + self._size])


def build_on_ray(source, out, workers=2, **settings):
    """The same on Ray."""
    return build(source, out, engine=on_ray(workers), **settings)


class Together(Pixels):
    """A recipe whose rows depend on what is embedded at once, as rounding may on a GPU."""

    def embed(self, images):
        rows = super().embed(images)
        return rows * (1 + images.mean()) / 256
