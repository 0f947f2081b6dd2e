"""Build the "emoji-7" drawings: seven permissively licensed emoji sets, rasterised to 64x64 RGBA.

A caption is an emoji name that at least four of the sets draw; skin tones and pixel-exact
duplicates (alias names) are left out. The result ships as package data: two files, a JSON table
(caption, set, category per drawing) and lossless WebP sheets of 64 columns in table order.

    python training/build_emoji7.py            # needs npm and the resvg-py package
"""

import collections
import hashlib
import io
import json
import re
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import resvg_py
from PIL import Image

SETS = {
    "noto": "1.2.9",
    "noto-v1": "1.2.5",
    "twemoji": "1.2.5",
    "fluent-emoji-flat": "1.2.6",
    "emojione": "1.2.3",
    "fxemoji": "1.2.2",
    "streamline-emojis": "1.2.4",
}
SKIN_TONE = re.compile(r"skin-tone|-(light|medium|medium-light|medium-dark|dark)(-|$)")
SIDE, COLUMNS, PER_SHEET = 64, 64, 2048
MIN_DRAWINGS = 4
OUT = Path(__file__).parents[1] / "src/sidestep/models/embedded/drawings"


def load_set(name: str, version: str, folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """One icon set: its table of SVG bodies, and the category of each icon it classifies."""
    spec = f"@iconify-json/{name}@{version}"
    packed = subprocess.run(
        ["npm", "pack", "--silent", spec], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.split()[-1]
    with tarfile.open(folder / packed) as archive:
        icons = json.load(archive.extractfile("package/icons.json"))  # type: ignore[arg-type]
        meta = json.load(archive.extractfile("package/metadata.json"))  # type: ignore[arg-type]
    return icons, {n: c for c, names in meta.get("categories", {}).items() for n in names}


def body(icons: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The SVG body behind a name, following plain aliases only (not flipped or rotated ones)."""
    if name in icons["icons"]:
        return icons["icons"][name]
    alias = icons.get("aliases", {}).get(name)
    return body(icons, alias["parent"]) if alias and set(alias) == {"parent"} else None


def render(icons: dict[str, Any], name: str) -> Image.Image | None:
    """A drawing as 64x64 RGBA on transparent ground, or None where the set lacks the name."""
    found = body(icons, name)
    if found is None:
        return None
    width = found.get("width", icons.get("width", 16))
    height = found.get("height", icons.get("height", 16))
    box = f"{found.get('left', 0)} {found.get('top', 0)} {width} {height}"
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{box}" width="{width}" height="{height}">{found["body"]}</svg>'
    )
    png = resvg_py.svg_to_bytes(svg_string=svg, width=SIDE, height=SIDE, skip_system_fonts=True)
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA").resize((SIDE, SIDE))


def main() -> None:
    """Render, deduplicate and write the sheets."""
    with tempfile.TemporaryDirectory() as tmp:
        loaded = {s: load_set(s, v, Path(tmp)) for s, v in SETS.items()}
    count = collections.Counter(
        name
        for icons, _ in loaded.values()
        for name in {*icons["icons"], *icons.get("aliases", {})}
        if not SKIN_TONE.search(name) and body(icons, name)
    )
    # The name most sets use wins, so that an alias twin is the one dropped as a duplicate.
    names = sorted((n for n, c in count.items() if c >= MIN_DRAWINGS), key=lambda n: (-count[n], n))
    rows: list[tuple[str, str, Image.Image]] = []
    seen: set[bytes] = set()
    for set_name, (icons, _) in loaded.items():
        for name in names:
            image = render(icons, name)
            if image is None:
                continue
            digest = hashlib.sha256(image.tobytes()).digest()
            if digest not in seen:
                seen.add(digest)
                rows.append((name, set_name, image))
    drawings = collections.Counter(name for name, _, _ in rows)
    rows = [row for row in rows if drawings[row[0]] >= MIN_DRAWINGS]
    rows.sort(key=lambda row: (row[0], list(SETS).index(row[1])))
    category = {
        name: next((c[name] for _, c in loaded.values() if name in c), "Unsorted") for name in names
    }
    OUT.mkdir(parents=True, exist_ok=True)
    for first in range(0, len(rows), PER_SHEET):
        part = rows[first : first + PER_SHEET]
        height = -(-len(part) // COLUMNS) * SIDE
        sheet = Image.new("RGBA", (COLUMNS * SIDE, height))
        for i, (_, _, image) in enumerate(part):
            sheet.paste(image, (i % COLUMNS * SIDE, i // COLUMNS * SIDE))
        sheet.save(OUT / f"sheet{first // PER_SHEET}.webp", lossless=True, method=6)
    table = [[name.replace("-", " "), set_name, category[name]] for name, set_name, _ in rows]
    lines = ",\n".join(json.dumps(row) for row in table)
    (OUT / "drawings.json").write_text(f"[\n{lines}\n]\n")
    print(f"{len(rows)} drawings of {len({r[0] for r in rows})} captions in {OUT}")


if __name__ == "__main__":
    main()
