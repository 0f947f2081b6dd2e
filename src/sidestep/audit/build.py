"""Building an index: new and changed pictures are embedded, removed ones forgotten.

Pictures are embedded unit by unit in the order of their collection and written shard by shard, a
shard being whole units. So a killed build goes on behind its last whole shard and ends with the
bytes of one that was not killed, whoever embeds the units.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from sidestep.audit import embedding, shards
from sidestep.audit.embedding import Embedded, Engine, How, here
from sidestep.audit.index import COMPLETE, SETTINGS, Settings, fit
from sidestep.audit.shards import Features, Picture, identify
from sidestep.errors import BadData, BadRecords
from sidestep.runs import marks
from sidestep.similarity.base import Recipe
from sidestep.sources.base import Collection, Item
from sidestep.sources.decoders import Look, Task
from sidestep.sources.tiles import Tiles

LOCK = "lock"
Report = Callable[[str, int, int], None]


@dataclass
class Built:
    """What a build met, in pictures."""

    images: int = 0  # in the collection, unreadable ones included
    new: int = 0  # new or changed, embedded or found unreadable
    unchanged: int = 0
    recaptioned: int = 0  # of the unchanged, those with another caption
    removed: int = 0  # no longer there
    unreadable: Counter[str] = field(default_factory=Counter)  # by reason, over all images

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return vars(self) | {"unreadable": dict(self.unreadable.most_common())}


class Known(NamedTuple):
    """What an index knows of the picture at a path."""

    shard: int
    sha256: str
    reason: str
    caption: str | None


def build_index(
    collection: Collection,
    out: Path,
    recipe: Recipe,
    *,
    side: int = 256,
    batch: int = 32,
    pictures_per_shard: int = 4096,
    engine: Engine | None = None,
    report: Report = lambda task, done, total: None,
) -> Built:
    """Bring the index in a folder to the state of a collection.

    Every picture is read and hashed; only new and changed bytes are decoded and embedded. Killed
    and called again it goes on. About 300 bytes per picture and one shard are in memory.

    Args:
        collection: see `sources.collection.open_collection`.
        out: the folder of the index; made if it is not there.
        recipe: that embeds the pictures.
        side: pixels of the centre square that each picture is resized to before the recipe sees
            it, as training did; queries are framed alike.
        batch: pictures embedded at once, at most `embedding.UNIT`.
        pictures_per_shard: what a shard holds and a kill loses at most.
        engine: where pictures are embedded; None = in this process, decoded in a process for each
            core. See `embedding.here(workers)` and `embedding_on_ray.on_ray(workers)`.
        report: told the task and how many pictures of how many are done.

    Raises:
        BadRecords: the folder holds an index of other settings, or another process builds it.
        BadData: the collection has no picture at all.
        ValueError: a setting is out of range, or the recipe gives numbers that are not finite.
    """
    if min(side, batch, pictures_per_shard) < 1 or batch > embedding.UNIT:
        raise ValueError(
            f"side is {side}, batch {batch} and pictures_per_shard {pictures_per_shard}; each must "
            f"be at least 1, and batch at most {embedding.UNIT}"
        )
    (out / shards.FOLDER).mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / LOCK, timeout=0):
            tiles = collection.grid if isinstance(collection, Tiles) else None
            settings = _settings(out, recipe, side, tiles, pictures_per_shard)
            rows = partial((engine or here()), recipe, How(side, batch))
            return _Build(out, settings).run(collection, rows, report)
    except Timeout as error:
        raise BadRecords(
            f"another process is building the index in {out}; wait for it or give another folder"
        ) from error


def _settings(
    out: Path, recipe: Recipe, side: int, tiles: int | None, pictures_per_shard: int
) -> Settings:
    """Those of the index in the folder, which must be these, or these in a new one."""
    there = Settings.read(out) if (out / SETTINGS).exists() else None
    if there is not None:
        if there.tiles != tiles:
            raise BadRecords(
                f"the index in {out} is of {_cut(there.tiles)}, and {_cut(tiles)} came; give "
                "those, or index into another folder"
            )
        fit(out, there, recipe)
    blank = np.zeros((1, side, side, 3), dtype=np.uint8)
    fingerprint, dimension = getattr(recipe, "fingerprint", ""), recipe.embed(blank).shape[1]
    settings = Settings(recipe.name, fingerprint, side, dimension, pictures_per_shard, tiles)
    if there is None:
        marks.put(out, SETTINGS, settings.text.encode())
    elif there != settings:
        raise BadRecords(
            f"the index in {out} has side {there.side} and {there.pictures_per_shard} pictures per "
            f"shard, and {side} and {pictures_per_shard} came; give those, or index into another "
            "folder"
        )
    return settings


def _cut(tiles: int | None) -> str:
    return "whole pictures" if tiles is None else f"{tiles} x {tiles} tiles of each picture"


class _Build:
    """One build: what is known by path, and the shard being filled."""

    def __init__(self, out: Path, settings: Settings) -> None:
        self.out, self.settings = out, settings
        self.unit = embedding.size(settings.pictures_per_shard)
        self.shards = {s.number: s for s in shards.find(out, settings.id)}
        # A later shard holds the newer bytes of a path: a killed build may have left both.
        self.known = {
            p.path: Known(s.number, p.sha256, p.reason, p.caption)
            for s in self.shards.values()
            for p in shards.read_pictures(out, s)
        }
        self.number = max(self.shards, default=-1) + 1
        self.built = Built()
        self.seen = dict[str, str | None]()  # captions by path
        self.pictures = list[Picture]()
        self.features = list[Features]()

    def run(
        self,
        collection: Collection,
        embed: Callable[[Iterator[embedding.Unit]], Iterator[Embedded]],
        report: Report,
    ) -> Built:
        total = collection.count()
        if not total:
            raise BadData(f"the collection is empty, so the index in {self.out} stays as it is")
        report("pictures", 0, total)
        items = deque[Item]()  # on their way through the engine
        tasks = self._tasks(collection.items(), items)
        for unit in embed(embedding.units(tasks, self.unit)):
            self._take([items.popleft() for _ in unit.looks], unit)
            report("pictures", self.built.images, max(total, self.built.images))
        self._close()
        self._forget()
        files = [marks.file(self.out, s.mark) for _, s in sorted(self.shards.items())]
        marks.vouch(self.out, COMPLETE, self.settings.id, files)
        shards.sweep(self.out, self.shards.values())
        return self.built

    def _tasks(self, found: Iterator[Item], items: deque[Item]) -> Iterator[Task]:
        for item in found:
            known = self.known.get(item.path)
            # The bytes travel in the task; here only the name is of use.
            items.append(item._replace(data=""))
            yield Task(item.data, known.sha256 if known and not known.reason else "", item.window)

    def _take(self, items: list[Item], unit: Embedded) -> None:
        for item, look in zip(items, unit.looks, strict=True):
            self._note(item, look)
        if len(unit.features):
            self.features.append(unit.features)
        # A unit is not torn: where the next might not fit, the next shard begins.
        if len(self.pictures) + self.unit > self.settings.pictures_per_shard:
            self._close()

    def _note(self, item: Item, look: Look) -> None:
        """Count a picture, and keep what is new of it; its row, if it has one, is in the unit."""
        known, built = self.known.get(item.path), self.built
        self.seen[item.path] = item.caption
        built.images += 1
        if look.reason:
            built.unreadable[look.reason] += 1
        if known and (known.sha256, known.reason) == (look.sha256, look.reason):
            built.unchanged += 1
            built.recaptioned += known.caption != item.caption
            return
        built.new += 1
        self.known[item.path] = Known(self.number, look.sha256, look.reason, item.caption)
        self.pictures.append(
            Picture(
                identify(item.path, look.sha256),
                item.path,
                look.sha256,
                look.size,
                "unreadable" if look.reason else "ok",
                look.reason,
                item.caption,
            )
        )

    def _close(self) -> None:
        """Write the shard being filled."""
        if not self.pictures:
            return
        self._write(self.number, self.pictures, self.features)
        self.number += 1
        self.pictures, self.features = [], []

    def _write(self, number: int, pictures: list[Picture], features: list[Features]) -> None:
        empty = np.empty((0, self.settings.dimension), dtype=np.float16)
        rows = np.concatenate([empty, *features])
        self.shards[number] = shards.write(self.out, self.settings.id, number, pictures, rows)

    def _forget(self) -> None:
        """Write shards again without what is gone, and with the captions of today."""
        for number, shard in list(self.shards.items()):
            pictures = shards.read_pictures(self.out, shard)
            keep = [p for p in pictures if self._current(number, p)]
            now = [p._replace(caption=self.seen[p.path]) for p in keep]
            if now == pictures:
                continue
            self.built.removed += sum(p.path not in self.seen for p in pictures)
            ok = [self._current(number, p) for p in pictures if p.status == "ok"]
            if now:
                rows = shards.read_features(self.out, shard)[np.array(ok, dtype=bool)]
                self._write(number, now, [rows])
            else:
                # Its mark goes now, the files are swept: half a shard would hold up the next build.
                (self.out / shard.mark).unlink()
                del self.shards[number]

    def _current(self, number: int, picture: Picture) -> bool:
        return picture.path in self.seen and self.known[picture.path].shard == number
