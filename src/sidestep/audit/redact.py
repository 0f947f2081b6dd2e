"""Evidence without what third parties must not see.

Two modes. `blur` keeps prompts and captions and shows blurred pictures; `hashes` shows no picture
and puts commitments (see `concealed`) in the place of prompts and captions. In both, the paths, ids
and hashes of training pictures become commitments too: a public list of pictures with their hashes
would otherwise give back what the blur took. In both, free text loses absolute paths, accounts and
the names of this machine and its user.

`hashes` leaves out seeds: an image's seed is a hash of the run's seed, its prompt and its draw, so
with it anybody could try prompts until one fits.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import Any, Literal

import msgspec

from sidestep.audit.concealed import Concealed
from sidestep.audit.evidence import (
    Edition,
    Evidence,
    Exhibit,
    Finding,
    Group,
    Part,
    PromptFacts,
    TrainingFacts,
    TrainingPicture,
)
from sidestep.audit.reviews import NOTE, Reviews
from sidestep.audit.scrub import Scrub
from sidestep.errors import BadRecords
from sidestep.runs.records import Record

Mode = Literal["blur", "hashes"]
# Fields of a record that name no prompt and no picture.
KEPT = (
    "rule", "method", "settings", "before", "kind", "draw", "image", "transition",
    "transition_time", "opened_by", "nfe", "seconds", "similarity", "recipe", "threshold", "copy",
    "agreement", "spread", "change", "curve", "strength", "reached", "backward", "memory", "form",
    "own", "text",
)  # fmt: skip
# What a machine reads or the auditor signs; findings and results have rules of their own.
AS_IT_IS = {"state", "auditor", "records", "findings", "edition"}
_NAME = re.compile(r"[a-z0-9][a-z0-9_.+-]{0,39}")  # a setting that is a name: a method, a mode
_replace = msgspec.structs.replace


class Redaction:
    """What one edition replaces, the same way everywhere.

    Attributes:
        mode: blur or hashes.
        pictures: files of the edition by file of the full bundle.
        concealed: the commitments made.
    """

    def __init__(self, mode: Mode, full: Evidence, prompts: Iterable[str] = ()) -> None:
        """`prompts` are those of the records. Raises BadRecords if `full` is an edition."""
        if full.edition is not None:
            raise BadRecords(
                f"this is a redacted edition already ({full.edition.mode}); make another from the "
                "full bundle"
            )
        self.mode, self.concealed = mode, Concealed()
        self.pictures: dict[str, str] = {}
        self._secret = {*_secrets(full, mode), *(prompts if mode == "hashes" else ())}
        self._scrub = Scrub(self._secret)

    def evidence(self, full: Evidence, sums: str) -> Evidence:
        """The edition of the evidence whose bundle has that SHA-256 of SHA256SUMS."""
        scrubbed: Evidence = self._words(full)
        return _replace(
            scrubbed,
            edition=Edition(mode=self.mode, full=sums),
            results=_replace(self._words(full.results), prompts=self._groups(full.results.prompts)),
            findings=tuple(map(self._finding, full.findings)),
        )

    def record(self, record: Record) -> dict[str, Any]:
        """A record as a JSON value; what is not known to be harmless is left out."""
        row = {name: value for name, value in asdict(record).items() if name in KEPT}
        return row | {
            "rule": self._scrub.text(record.rule),
            "curve": record.curve and self._scrub.text(record.curve),
            "settings": self._settings(record.settings),
            "prompt": self._prompt(record.prompt),
            "seed": record.seed if self.mode == "blur" else None,
            "nearest": record.nearest and self.concealed.token(record.nearest),
            "nearest_image": None,
        }

    def reviews(self, full: Reviews, audit: str) -> Reviews:
        """The reviews of the edition whose audit.json has that SHA-256.

        Reviewers are numbered in the order in which they first spoke. A note may describe a
        picture, so that `hashes` puts a commitment in its place.
        """
        names = dict.fromkeys(r.reviewer for r in sorted(full.reviews, key=lambda r: r.date))
        numbers = {name: f"reviewer {i}" for i, name in enumerate(names, start=1)}
        scrub = Scrub({*self._secret, *names})
        hide = scrub.text if self.mode == "blur" else self.concealed.token
        done = (
            # What replaces a word may be longer than the word.
            _replace(r, reviewer=numbers[r.reviewer], note=r.note and hide(r.note)[:NOTE].strip())
            for r in full.reviews
        )
        return Reviews.of(audit, done)

    def _words(self, part: Any) -> Any:
        """A part of the evidence with its free text scrubbed and its settings concealed."""
        match part:
            case str():
                return self._scrub.text(part)
            case tuple():
                return tuple(map(self._words, part))
            case TrainingFacts():
                reasons = Counter[str]()
                for reason, number in part.unreadable.items():
                    reasons[self._scrub.text(reason)] += number
                return _replace(self._fields(part), unreadable=dict(reasons))
            case PromptFacts():
                return _replace(self._fields(part), sha256=self._prompt(part.sha256))
            case Part():
                return self._fields(part)
            case dict():
                return self._scrub.value(part)
            case _:
                return part

    def _fields(self, part: Any) -> Any:
        """A part of the evidence with each of its fields treated."""
        fields = {
            f: (self._settings if f == "settings" else self._words)(getattr(part, f))
            for f in part.__struct_fields__
            if f not in AS_IT_IS
        }
        return _replace(part, **fields)

    def _prompt(self, text: str) -> str:
        """A prompt or what is made of prompts alone; no prompt at all is no secret."""
        if self.mode == "blur":
            return self._scrub.text(text)
        return text and self.concealed.token(text)

    def _groups(self, groups: tuple[Group, ...]) -> tuple[Group, ...]:
        return tuple(_replace(g, name=self._prompt(g.name)) for g in groups)

    def _finding(self, one: Finding) -> Finding:
        return _replace(
            one,
            training=self._training(one.training),
            prompts=self._groups(one.prompts),
            exhibits=tuple(map(self._exhibit, one.exhibits)),
        )

    def _training(self, one: TrainingPicture) -> TrainingPicture:
        return _replace(
            one,
            id=self.concealed.token(one.id),
            path=self.concealed.token(one.path),
            sha256=self.concealed.token(one.sha256),
            caption=one.caption and self._prompt(one.caption),
            picture=self._picture(one.picture),
        )

    def _exhibit(self, one: Exhibit) -> Exhibit:
        return _replace(
            one,
            prompt=self._prompt(one.prompt),
            picture=self._picture(one.picture),
            seed=one.seed if self.mode == "blur" else None,
            command=self._words(one.command) if self.mode == "blur" else None,
        )

    def _picture(self, name: str | None) -> str | None:
        """Where the edition keeps a picture; a training picture's file is named after its id."""
        if name is None or self.mode == "hashes":
            return None
        path = PurePosixPath(name)
        if not path.stem.isdecimal():
            path = PurePosixPath("pictures", f"{self.concealed.token(name)[:24]}.png")
        return self.pictures.setdefault(name, path.as_posix())

    def _settings(self, settings: Any) -> Any:
        """Settings, scrubbed; in `hashes` a text that is not plainly a name is concealed."""
        match settings:
            case str() if self.mode == "hashes" and not _NAME.fullmatch(settings):
                return settings and self.concealed.token(settings)
            case str():
                return self._scrub.text(settings)
            case dict():
                return {k: self._settings(v) for k, v in settings.items()}
            case list() | tuple():
                return [self._settings(v) for v in settings]
            case _:
                return settings


def _secrets(evidence: Evidence, mode: Mode) -> Iterator[str]:
    """What free text must not repeat."""
    for finding in evidence.findings:
        one = finding.training
        yield from (one.id, one.sha256, one.path, PurePosixPath(one.path).name)
        if mode == "hashes":
            yield from (one.caption or "", *(x.prompt for x in finding.exhibits))
            yield from (g.name for g in finding.prompts)
    if mode == "hashes":
        for part in (evidence.model, evidence.recommendation, *evidence.tried):
            yield from _texts(part.settings if part else {})
        yield evidence.prompts.sha256
        yield from (g.name for g in evidence.results.prompts)


def _texts(settings: Any) -> Iterator[str]:
    """The texts among settings that are not plainly names."""
    match settings:
        case str() if not _NAME.fullmatch(settings):
            yield settings
        case dict():
            for value in settings.values():
                yield from _texts(value)
        case list() | tuple():
            for value in settings:
                yield from _texts(value)
