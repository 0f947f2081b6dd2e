"""A small split in a process of its own, to be killed."""

from pathlib import Path

from sidestep.audit.embedding import here
from sidestep.audit.splitting import hold_out
from sidestep.similarity.pixels import Pixels
from sidestep.sources.collection import open_collection


def split(source, out, **settings):
    """A third of a folder, pictures compared at 16 pixels."""
    given = {"share": 0.3, "similarity": 0.9, "side": 16, "batch": 4, "engine": here(workers=1)}
    return hold_out(open_collection(str(source)), Path(out), Pixels(4), **given | settings)
