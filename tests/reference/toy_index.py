"""A small index in a process of its own, to be killed."""

from pathlib import Path

from sidestep.audit.build import build_index
from sidestep.similarity.pixels import Pixels
from sidestep.sources.collection import open_collection


def build(source, out, **settings):
    """Index a folder in shards of 5 pictures, embedded 2 at a time."""
    given = {"side": 16, "batch": 2, "pictures_per_shard": 5, "workers": 1}
    collection = open_collection(str(source))
    return build_index(collection, Path(out), Pixels(4), **given | settings)
