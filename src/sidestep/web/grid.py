"""The picture grid of a run as one PNG: the training picture beside every rule's, same noise."""

import os
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from sidestep.runs.records import Record
from sidestep.runs.summary import is_scored
from sidestep.web import words
from sidestep.web.run import Line, Run, load

SIDE = 128  # pixels of a picture in the grid
GAP, MARGIN, LABEL = 14, 24, 190  # between pictures, around all, width of the prompts' column
NOTE = 24  # height of the line under a picture
FRAME = 4  # width of a copy's frame
PAPER, INK, SOFT, RED, LINE = "#ffffff", "#1c1d1f", "#5d6166", "#c3161c", "#dcdcd8"
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def write_grid(run_folder: Path, out_png: Path, rows: int = 8) -> Path:
    """Write the grid of a run's first prompts; returns the path written.

    A copy has a red frame and the word "copy" beside its similarity. Memorized captions come
    first where the run has any, otherwise its other prompts.

    Args:
        run_folder: as described in `sidestep.runs.records`.
        out_png: the file to write.
        rows: most prompts shown, at least 1.

    Raises:
        BadRecords: a file of the run is damaged.
        OSError: the picture cannot be written.
        ValueError: rows is below 1.
    """
    if rows < 1:
        raise ValueError(f"rows is {rows}; a grid shows at least 1 prompt")
    run = load(run_folder)
    lines = next(lines for kind in words.KINDS if (lines := run.lines(kind)))
    image = _draw(run, lines[:rows], len(lines))
    out_png = Path(out_png)
    temporary = out_png.with_name(out_png.name + ".tmp")
    image.save(temporary, "PNG", optimize=True)
    os.replace(temporary, out_png)
    return out_png


def _draw(run: Run, lines: list[Line], total: int) -> Image.Image:
    text, small = ImageFont.load_default(size=15), ImageFont.load_default(size=13)
    training = any(line.training for line in lines)
    heads = [*(["training picture"] if training else []), *run.rules]
    wrapped = [_wrap(head, text, SIDE) for head in heads]
    top = MARGIN + 19 * max(len(w) for w in wrapped) + 10
    step = SIDE + NOTE + GAP
    width = 2 * MARGIN + LABEL + len(heads) * (SIDE + GAP) - GAP
    image = Image.new("RGB", (width, top + len(lines) * step + 22 + MARGIN), PAPER)
    draw = ImageDraw.Draw(image)
    for column, head in enumerate(wrapped):
        for i, part in enumerate(head):
            at = (_left(column), top - 10 - 19 * (len(head) - i))
            draw.text(at, part, INK, text)
    for row, line in enumerate(lines):
        y = top + row * step
        for i, part in enumerate(_wrap(line.prompt or "(empty prompt)", text, LABEL - 20)[:7]):
            draw.text((MARGIN, y + 19 * i), part, INK, text)
        if line.training:
            image.paste(_square(run, line.training), (_left(0), y))
        for column, record in enumerate(line.cells.values(), start=int(training)):
            _cell(image, draw, run, record, (_left(column), y), small)
    foot = _foot(run, len(lines), total)
    draw.text((MARGIN, image.height - MARGIN - 16), foot, SOFT, small)
    return image


def _cell(
    image: Image.Image, draw: ImageDraw.ImageDraw, run: Run, record: Record | None,
    at: tuple[int, int], font: Font,
) -> None:  # fmt: skip
    x, y = at
    if record is None:
        draw.rectangle((x, y, x + SIDE - 1, y + SIDE - 1), outline=LINE)
        draw.text((x + 8, y + 8), "not made", SOFT, font)
        return
    image.paste(_square(run, record.image), at)
    similarity = record.similarity.get(record.recipe or "")
    note = "" if similarity is None else f"{similarity:.2f}"
    if record.copy:
        box = (x - FRAME, y - FRAME, x + SIDE + FRAME - 1, y + SIDE + FRAME - 1)
        draw.rectangle(box, outline=RED, width=FRAME)
        note = f"{note}  copy".strip()
    draw.text((x, y + SIDE + 6), note, RED if record.copy else SOFT, font)


def _foot(run: Run, shown: int, total: int) -> str:
    parts = [f"{shown} of {words.count(total, 'prompt')}, first draw of each, same noise in a row"]
    scored = next((r for r in run.every if is_scored(r)), None)
    if scored is not None:
        above = f" above {scored.threshold:.2f}" if scored.threshold is not None else ""
        parts.append(f"red frame: copy, similarity ({scored.recipe}){above}")
    return "; ".join(parts)


def _left(column: int) -> int:
    return MARGIN + LABEL + column * (SIDE + GAP)


def _square(run: Run, name: str) -> Image.Image:
    """A picture on a square, whole."""
    picture = run.picture(name)
    scale = SIDE / max(picture.size)
    size = [max(1, round(side * scale)) for side in picture.size]
    picture = picture.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    square = Image.new("RGB", (SIDE, SIDE), PAPER)
    square.paste(picture, ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
    return square


def _wrap(text: str, font: Font, width: int) -> list[str]:
    """Lines of at most `width` pixels, broken between words, and inside a word that is longer."""
    lines = [""]
    for word in text.split():
        candidate = f"{lines[-1]} {word}".strip()
        if font.getlength(candidate) <= width:
            lines[-1] = candidate
            continue
        if lines[-1]:
            lines.append("")
        for character in word:
            if lines[-1] and font.getlength(lines[-1] + character) > width:
                lines.append("")
            lines[-1] += character
    return lines
