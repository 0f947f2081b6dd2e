"""The published formats of prompts with their training images: one class for each.

An object is what a scenario file says about its prompts; `prompts` reads them, one at a time, from
the data folder. `images` is the folder of reference images.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec

from sidestep.errors import BadData
from sidestep.runs.records import Form, Kind
from sidestep.sources import pictures
from sidestep.sources.text import cell, json_lines, json_object, lines, rows, text

Count = Annotated[int, msgspec.Meta(ge=1)]
NumpySeed = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
FORMS: dict[str, Form] = {"VM": "verbatim", "TM": "template"}


class Prompt(NamedTuple):
    """A prompt, its own training images and how it is memorized, as far as that is known."""

    text: str
    own: tuple[Path, ...] = ()
    form: Form | None = None


class Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Prompts drawn with replacement by numpy's RandomState, as the paper's scripts draw them."""

    count: Count
    numpy_seed: NumpySeed


class Prompts(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="format"
):
    """What every format may say."""

    path: str
    kind: Kind = "target"
    count: Count | None = None  # entries of the published list; None = not known
    draws: Count = 1  # pictures of each prompt
    choose: Choice | None = None  # None = every prompt, in the order of the list


class Webster(Prompts, frozen=True, kw_only=True, tag="webster"):
    """JSON Lines with `caption`, `index`, `url`; images of a prompt in IMAGES/<index>/.

    `types` is the list of Hintersdorf et al., a CSV with `Index` and `type` (VM or TM).
    """

    types: str | None = None

    def prompts(self, data: Path, images: Path) -> Iterator[Prompt]:
        """In the order of the file."""
        forms = self._forms(data)
        path = data / self.path
        for number, row in json_lines(path):
            index = str(row.get("index", ""))
            if not index.isdecimal():
                raise BadData(
                    f"{path}, line {number}: 'index' is {row.get('index')!r}; it must be the "
                    "number that names the folder of the prompt's images"
                )
            own = images / index
            found = tuple(pictures.files(own)) if own.is_dir() else ()
            yield Prompt(cell(path, number, row, "caption"), found, forms.get(index))

    def _forms(self, data: Path) -> dict[str, Form]:
        if self.types is None or not (data / self.types).is_file():
            return {}
        path, forms = data / self.types, dict[str, Form]()
        for number, row in rows(path, ";"):
            kind = cell(path, number, row, "type")
            if kind not in FORMS:
                raise BadData(f"{path}, line {number}: 'type' is {kind!r}; it must be VM or TM")
            forms[cell(path, number, row, "Index")] = FORMS[kind]
        return forms


class Captions(Prompts, frozen=True, kw_only=True, tag="captions"):
    """A JSON object from image file to its captions, of which the first is the prompt.

    The keys carry folders of the machine that wrote them, so an image is found by the longest end
    of its key that is a file below IMAGES.
    """

    def prompts(self, data: Path, images: Path) -> Iterator[Prompt]:
        """In the order of the file."""
        path = data / self.path
        for file, captions in json_object(path).items():
            first = captions[0] if isinstance(captions, list) and captions else None
            if not isinstance(first, str) or not first.strip():
                raise BadData(f"{path}: {file!r} has no list of captions with text in it")
            parts = [p for p in file.replace("\\", "/").split("/") if p not in ("", ".", "..")]
            ends = (images.joinpath(*parts[i:]) for i in range(len(parts)))
            own = next((end for end in ends if end.is_file()), None)
            yield Prompt(first, (own,) if own else ())


class Pairs(Prompts, frozen=True, kw_only=True, tag="pairs"):
    """A folder of captions NAME.txt, each beside its image NAME.jpg (or .png, .webp)."""

    def prompts(self, data: Path, images: Path) -> Iterator[Prompt]:
        """In the order of the names."""
        by_stem = defaultdict[str, list[Path]](list)
        for image in pictures.files(images):
            by_stem[image.stem].append(image)
        for file in sorted((data / self.path).glob("*.txt")):
            caption = text(file)
            if not caption:
                raise BadData(f"{file} is empty; it must hold the caption of {file.stem}")
            yield Prompt(caption, tuple(by_stem[file.stem]))


class Classes(Prompts, frozen=True, kw_only=True, tag="classes"):
    """A folder per class; the prompts name the classes.

    `names` says in words what each folder shows, in the order in which `choose` draws.
    """

    names: dict[str, str]
    template: str  # with {} for the class

    def __post_init__(self) -> None:
        """Refuse a template without a place for the class."""
        if "{}" not in self.template:
            raise ValueError(f"template is {self.template!r}; it must have {{}} for the class")

    def prompts(self, data: Path, images: Path) -> Iterator[Prompt]:
        """One per class."""
        for folder, name in self.names.items():
            if not (data / self.path / folder).is_dir():
                raise BadData(f"{data / self.path} has no folder {folder} ({name})")
            own = tuple(pictures.files(images / folder)) if (images / folder).is_dir() else ()
            yield Prompt(self.template.replace("{}", name), own)


class Lines(Prompts, frozen=True, kw_only=True, tag="lines"):
    """One prompt on each line; blank lines are left out."""

    def prompts(self, data: Path, images: Path) -> Iterator[Prompt]:
        """In the order of the file."""
        for _, line in lines(data / self.path):
            if line.strip():
                yield Prompt(line.strip())


class Table(Prompts, frozen=True, kw_only=True, tag="csv"):
    """A CSV file with headings, one of which is the prompt's."""

    column: str
    delimiter: str = ","

    def prompts(self, data: Path, images: Path) -> Iterator[Prompt]:
        """In the order of the file."""
        path = data / self.path
        for number, row in rows(path, self.delimiter):
            yield Prompt(cell(path, number, row, self.column))
