"""Write the table and the charts of docs/results/embedded.md: `python docs/generate_results.py`.

It reads the records in docs/results/embedded/ and nothing else, and takes seconds. A new run is
packed into that folder with `python docs/generate_results.py RUN`.
"""

import gzip
import io
import json
import sys
from pathlib import Path

from PIL import Image

from sidestep.bench.compare import compare, load
from sidestep.bench.tables import to_markdown
from sidestep.web import curves, drawing

PAGE = Path(__file__).parent / "results/embedded.md"
FOLDER = Path(__file__).parent / "results/embedded"
BEGIN, END = "<!-- table: written by docs/generate_results.py -->", "<!-- end of the table -->"


def pack(run: Path) -> None:
    """Copy the header and the packed records of a run folder."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    header = json.loads((run / "run.json").read_text(encoding="utf-8"))
    header["command"] = "sidestep bench run embedded"  # without the folders of one machine
    (FOLDER / "run.json").write_text(json.dumps(header, indent=1) + "\n", encoding="utf-8")
    data = (run / "records.jsonl").read_bytes()
    # Without a time in its head the same records make the same file.
    (FOLDER / "records.jsonl.gz").write_bytes(gzip.compress(data, mtime=0))


def table() -> str:
    """The comparison as Markdown."""
    _, records = load([FOLDER])
    return to_markdown(compare(records))


def main() -> None:
    """Pack a run if one is given, then write the table and the charts."""
    for run in sys.argv[1:]:
        pack(Path(run))
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{table()}{END}{after}", encoding="utf-8")
    lines = compare(load([FOLDER])[1])
    for name, figure in (
        ("curves", curves.overview(lines)),
        ("each", curves.each(lines)),
        ("cost", curves.cost(lines)),
    ):
        picture = Image.open(io.BytesIO(drawing.png(figure)))
        picture.save(FOLDER / f"{name}.webp", lossless=True, method=6)


if __name__ == "__main__":
    main()
