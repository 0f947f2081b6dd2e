from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from sidestep.errors import BadRecords
from sidestep.web import grid
from sidestep.web.grid import FRAME, GAP, SIDE, write_grid

RED = np.array([0xC3, 0x16, 0x1C])


def cells(path) -> tuple[np.ndarray, int]:
    """The pixels of a grid and the top of its first row of pictures."""
    pixels = np.asarray(Image.open(path).convert("RGB"))
    column = pixels[:, grid._left(0) + 2]
    # The training picture is the first thing in its column below one line of heading.
    top = next(y for y in range(50, len(column)) if (column[y : y + 8] != 255).any(axis=1).all())
    return pixels, top


def test_a_red_frame_is_around_copies_and_nothing_else(folder, tmp_path):
    out = write_grid(folder.path, tmp_path / "grid.png")
    pixels, top = cells(out)
    prompts = list(dict.fromkeys(r.prompt for r in folder.records if r.kind == "target"))
    copies = 0
    for row, prompt in enumerate(prompts):
        shown = [r for r in folder.records if r.prompt == prompt and r.draw == 0]
        for column, record in enumerate(shown, start=1):
            x, y = grid._left(column), top + row * (SIDE + grid.NOTE + GAP)
            frame = np.concatenate(
                [pixels[y - FRAME : y, x : x + SIDE].reshape(-1, 3),
                 pixels[y : y + SIDE, x + SIDE : x + SIDE + FRAME].reshape(-1, 3)]
            )  # fmt: skip
            assert (frame == RED).all() == record.copy
            copies += bool(record.copy)
    assert copies == 3


def test_pictures_are_shown_whole_at_twice_their_size(folder, tmp_path):
    pixels, top = cells(write_grid(folder.path, tmp_path / "grid.png"))
    original = Image.open(folder.path / "images/training/target-00.png").convert("RGB")
    wanted = np.asarray(original.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    x = grid._left(0)
    assert (pixels[top : top + SIDE, x : x + SIDE] == wanted).all()


def test_rows_are_capped(folder, tmp_path):
    step = SIDE + grid.NOTE + GAP
    heights = [
        Image.open(write_grid(folder.path, tmp_path / "grid.png", rows=n)).height for n in (1, 2, 8)
    ]
    # The fixture has three memorized captions.
    assert np.diff(heights).tolist() == [step, step]
    with pytest.raises(ValueError, match="rows is 0; a grid shows at least 1 prompt"):
        write_grid(folder.path, tmp_path / "grid.png", rows=0)


def test_an_unscored_run_has_a_grid_without_training_pictures(unscored, tmp_path):
    pixels = Image.open(write_grid(unscored.path, tmp_path / "grid.png"))
    assert pixels.width == 2 * grid.MARGIN + grid.LABEL + 3 * (SIDE + GAP) - GAP
    assert not (np.asarray(pixels.convert("RGB")) == RED).all(axis=-1).any()


def test_the_grid_is_the_same_bytes_each_time(folder, tmp_path):
    first = write_grid(folder.path, tmp_path / "a.png").read_bytes()
    assert write_grid(folder.path, tmp_path / "b.png").read_bytes() == first


def test_a_rule_without_a_prompt_leaves_its_place_empty(empty, tmp_path):
    empty.fill(
        ["a fox", "an owl"], lambda r: replace(r, prompt="other") if r.rule == "static" else r
    )
    assert write_grid(empty.path, tmp_path / "grid.png").is_file()


def test_a_missing_picture_is_a_sentence_and_no_grid(folder, tmp_path):
    (folder.path / folder.records[0].image).unlink()
    with pytest.raises(BadRecords, match="put the file back, or run again"):
        write_grid(folder.path, tmp_path / "grid.png")
    assert not list(tmp_path.glob("*.png*"))


@pytest.mark.parametrize("text", ["", "one", "several words of a prompt", "x" * 300, "a " * 100])
def test_wrapped_lines_fit_and_keep_the_text(text):
    from PIL import ImageFont

    font = ImageFont.load_default(size=15)
    lines = grid._wrap(text, font, 170)
    assert all(font.getlength(line) <= 170 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
