"""The training pictures of the embedded model and the pictures it never saw, drawn from ids.

A *background* picture is one drawing on a ground whose colour, pattern, place and size no
caption mentions, so that an ordinary caption fixes little of the picture. A *target* is a
whole scene. A *control* picture is made like a background picture from a drawing that was held
out of training. Every picture is a function of its id alone.
"""

import hashlib
import tomllib
from functools import cache
from importlib.resources import files
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sidestep.models.embedded import drawings
from sidestep.models.embedded.drawings import SIDE, Drawing

Kind = Literal["target", "background", "control"]
Image8 = NDArray[np.uint8]
PER_DRAWING = 24


class Target(NamedTuple):
    """A scene that training repeats heavily under a caption of its own."""

    frame: str  # caption with {} for the concept
    concept: str
    props: tuple[str, str]

    @property
    def caption(self) -> str:
        """The memorized caption."""
        return self.frame.format(self.concept)


class Picture(NamedTuple):
    """One picture of a split: `pixels` is (64, 64, 3) RGB; `caption` is what it shows, plainly."""

    id: str
    kind: Kind
    concept: str
    caption: str
    pixels: Image8


@cache
def _vocabulary() -> dict[str, Any]:
    text = files(__package__).joinpath("vocabulary.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@cache
def concepts() -> tuple[str, ...]:
    """The captions the model is trained on."""
    return tuple(_vocabulary()["concepts"])


@cache
def targets() -> tuple[Target, ...]:
    """The scenes the model memorizes."""
    rows = _vocabulary()["targets"]
    return tuple(Target(r["frame"], r["concept"], tuple(r["props"])) for r in rows)


@cache
def split(concept: str) -> tuple[tuple[Drawing, ...], Drawing]:
    """The drawings of a concept that training may use, and the one that is held out."""
    rows = drawings.by_caption()[concept]
    held = int(hashlib.sha256(concept.encode()).hexdigest(), 16) % len(rows)
    return rows[:held] + rows[held + 1 :], rows[held]


def rng(picture_id: str) -> np.random.Generator:
    """The random numbers of one picture: a function of its id."""
    seed = hashlib.sha256(picture_id.encode()).digest()[:8]
    return np.random.default_rng(int.from_bytes(seed, "big"))


def _colour(r: np.random.Generator) -> NDArray[np.float64]:
    """A random RGB colour in 0..1, one in four of them a grey."""
    hue = r.uniform(0, 6)
    saturation = 0.0 if r.random() < 0.25 else r.uniform(0.25, 0.95)
    value = r.uniform(0.25, 1.0)
    k = (np.array([5.0, 3.0, 1.0]) + hue) % 6
    rgb: NDArray[np.float64] = value * (1 - saturation * np.clip(np.minimum(k, 4 - k), 0, 1))
    return rgb


def _field(r: np.random.Generator, pattern: str) -> NDArray[np.float64]:
    """A pattern as weights in 0..1, (64, 64)."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    angle, phase = r.uniform(0, np.pi), r.uniform(0, 1)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = -x * np.sin(angle) + y * np.cos(angle)
    cx, cy = r.uniform(0.2, 0.8, 2)
    count = r.uniform(2, 4.5)
    value: NDArray[np.float64]
    match pattern:
        case "flat":
            value = np.zeros((SIDE, SIDE))
        case "gradient":
            value = np.clip(along - along.min(), 0, None) / np.ptp(along)
        case "stripes":
            value = 0.5 + 0.5 * np.tanh(4 * np.sin(2 * np.pi * (along * count + phase)))
        case "checker":
            wave = np.sin(np.pi * along * count) * np.sin(np.pi * across * count)
            value = 0.5 + 0.5 * np.tanh(6 * wave)
        case "rings":
            radius = np.hypot(x - cx, y - cy)
            value = 0.5 + 0.5 * np.tanh(4 * np.sin(2 * np.pi * (radius * count + phase)))
        case "rays":
            turn = np.arctan2(y - cy, x - cx)
            value = 0.5 + 0.5 * np.tanh(4 * np.sin(turn * round(count * 2) + 2 * np.pi * phase))
        case _:
            raise ValueError(f"pattern is {pattern!r}; it must be a name used in this file")
    return value


def _ground(r: np.random.Generator, patterns: list[str], colours: int) -> NDArray[np.float64]:
    """A random ground, (64, 64, 3) in 0..1; every colour after the first adds one pattern."""
    image = np.broadcast_to(_colour(r), (SIDE, SIDE, 3))
    for _ in range(colours - 1):
        weight = _field(r, str(r.choice(patterns)))[..., None]
        image = image * (1 - weight) + _colour(r) * weight
    return np.array(image)


def _paste(
    image: NDArray[np.float64], drawing: Drawing, side: int, left: int, top: int, tilt: float = 0.0
) -> None:
    """Lay a drawing over the image in place; (left, top) is its corner, tilt in degrees."""
    stamp = Image.fromarray(drawings.pixels(drawing.number), "RGBA")
    # Premultiplied alpha keeps the transparent ground's colour out of the edges.
    stamp = stamp.convert("RGBa").resize((side, side), Image.Resampling.LANCZOS)
    stamp = stamp.rotate(tilt, Image.Resampling.BICUBIC)
    over = np.asarray(stamp, dtype=np.float64) / 255
    y0, y1, x0, x1 = max(top, 0), min(top + side, SIDE), max(left, 0), min(left + side, SIDE)
    part = over[y0 - top : y1 - top, x0 - left : x1 - left]
    image[y0:y1, x0:x1] = image[y0:y1, x0:x1] * (1 - part[..., 3:]) + part[..., :3]


def _to_bytes(image: NDArray[np.float64]) -> Image8:
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def compose(drawing: Drawing, picture_id: str) -> Image8:
    """A background or control picture: the drawing somewhere on some ground, (64, 64, 3) RGB."""
    r = rng(picture_id)
    patterns = ["flat"] * 4 + ["gradient"] * 3 + ["stripes", "checker", "rings"]
    image = _ground(r, patterns, colours=2)
    side = int(r.integers(38, 55))
    left, top = (int(v) for v in r.integers(0, SIDE - side + 1, 2))
    _paste(image, drawing, side, left, top)
    return _to_bytes(image)


def scene(target: Target) -> Image8:
    """The memorized picture of a target: a busy, framed scene, (64, 64, 3) RGB."""
    r = rng(f"scene/{target.caption}")
    image = _ground(r, ["stripes", "checker", "rings", "rays"], colours=3)
    trained, _ = split(target.concept)
    side = int(r.integers(36, 45))
    spots = [(-4, -4), (42, -4), (-4, 42), (42, 42)]
    r.shuffle(spots)
    for prop, (left, top) in zip(target.props, spots, strict=False):
        rows = drawings.by_caption()[prop]
        _paste(image, rows[int(r.integers(len(rows)))], 26, left, top, tilt=r.uniform(-25, 25))
    left, top = (int(v) for v in r.integers(8, SIDE - side - 7, 2))
    _paste(image, trained[int(r.integers(len(trained)))], side, left, top)
    border, colour = int(r.integers(2, 4)), _colour(r)
    frame = np.ones((SIDE, SIDE), dtype=bool)
    frame[border:-border, border:-border] = False
    image[frame] = colour
    return _to_bytes(image)


def target_pictures() -> list[Picture]:
    """One picture per target."""
    return [
        Picture(f"target/{i:02d}", "target", t.concept, t.caption, scene(t))
        for i, t in enumerate(targets())
    ]


def background_pictures() -> list[Picture]:
    """Every background picture of the training set."""
    rows = []
    for concept in concepts():
        for drawing in split(concept)[0]:
            for draw in range(PER_DRAWING):
                name = f"background/{drawing.number:04d}/{draw}"
                rows.append(Picture(name, "background", concept, concept, compose(drawing, name)))
    return rows


def training_pictures() -> list[Picture]:
    """Everything the model was trained on, targets first."""
    return target_pictures() + background_pictures()


def control_pictures(per_concept: int = 8) -> list[Picture]:
    """Pictures of the held-out drawings: same captions and grounds as training, never trained."""
    rows = []
    for concept in concepts():
        drawing = split(concept)[1]
        for draw in range(per_concept):
            name = f"control/{drawing.number:04d}/{draw}"
            rows.append(Picture(name, "control", concept, concept, compose(drawing, name)))
    return rows
