"""Twenty pictures with captions to fine-tune on, and 300 others that nothing was trained on.

For people who have no pictures at hand: drawings that the embedded model has never seen, each under
a caption that is not one of its own. `python examples/twenty_pictures.py --out FOLDER` writes
FOLDER/training and FOLDER/controls, NAME.png with the caption in NAME.txt.
"""

import argparse
import hashlib
from pathlib import Path

from PIL import Image

from sidestep.models.embedded import drawings, pictures

TRAINING, CONTROLS = 20, 300


def unseen() -> list[str]:
    """The captions of which the embedded model has seen no drawing, shuffled."""
    seen = {*pictures.concepts(), *(prop for t in pictures.targets() for prop in t.props)}
    rest = drawings.by_caption().keys() - seen
    return sorted(rest, key=lambda caption: hashlib.sha256(caption.encode()).digest())


def write(folder: Path, captions: list[str]) -> None:
    """One drawing of each caption on a ground of its own, 64x64, with its caption."""
    folder.mkdir(parents=True, exist_ok=True)
    for caption in captions:
        drawing = drawings.by_caption()[caption][0]
        name = f"{drawing.number:04d}"
        picture = pictures.compose(drawing, f"unseen/{name}")
        Image.fromarray(picture).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(caption + "\n", encoding="utf-8")


def main() -> None:
    """Write both folders."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/twenty-pictures"), metavar="FOLDER")
    out = parser.parse_args().out
    captions = unseen()
    write(out / "training", captions[:TRAINING])
    write(out / "controls", captions[TRAINING : TRAINING + CONTROLS])
    print(f"{TRAINING} pictures in {out / 'training'}, {CONTROLS} in {out / 'controls'}")


if __name__ == "__main__":
    main()
