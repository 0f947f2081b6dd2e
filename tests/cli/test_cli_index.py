"""`sidestep index`, `search` and `duplicates`, as a user types them."""

import json

import numpy as np
import pytest
from PIL import Image

from sidestep.audit import build as building
from sidestep.cli.main import main
from sidestep.sources.decoders import look

pytest.importorskip("pyarrow")
pytest.importorskip("faiss")


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding processes have tests of their own."""
    monkeypatch.setattr(building, "looks", lambda tasks, side, _: (look(t, side) for t in tasks))


@pytest.fixture
def source(tmp_path):
    """Five pictures, one of them there three times, and a file that is none."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"[bold]picture {number}")
    for name in ("copy", "copy again"):
        (folder / f"{name}.png").write_bytes((folder / "3.png").read_bytes())
    (folder / "page.jpg").write_bytes(b"<html>")
    return folder


def test_index_search_and_duplicates(source, tmp_path, capsys):
    out = tmp_path / "index"
    arguments = ["index", str(source), "--out", str(out), "--recipe", "pixels"]
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "images": 8, "new": 8, "unchanged": 0, "recaptioned": 0, "removed": 0,
        "unreadable": {"no JPEG, PNG or WEBP image": 1}, "recipe": "pixels-32", "side": 256,
    }  # fmt: skip
    assert main(arguments) == 0
    shown = capsys.readouterr()
    assert "unchanged" in shown.out and "no JPEG, PNG or WEBP image" in shown.out
    assert shown.err.startswith("pictures: ")

    assert main(["search", str(out), str(source / "1.png"), "--k", "2", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["recipe"], answer["pictures"]) == ("pixels-32", 7)
    first = answer["found"][0]
    assert (first["path"], first["caption"], first["place"]) == ("1.png", "[bold]picture 1", 1)
    assert first["similarity"] == pytest.approx(1, abs=1e-3)  # rows are stored in float16
    assert main(["search", str(out), str(source / "1.png")]) == 0
    shown = capsys.readouterr().out
    assert "pixels-32" in shown and "[bold]picture 1" in shown and first["id"] in shown

    assert main(["duplicates", str(out), "--similarity", "0.99", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["levels"] == {"1": 4, "3-4": 3}
    assert sorted(answer["copies"].values()) == [1, 1, 1, 1, 3, 3, 3]
    assert main(["duplicates", str(out), "--similarity", "0.99"]) == 0
    assert "3-4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["index", "{out}", "--out", "{out}", "--recipe", "pixels"], "nothing to read"),
        (["index", "{source}", "--out", "{out}", "--recipe", "pixel"], "did you mean pixels"),
        (["index", "{source}", "--out", "{out}", "--recipe", "sscd-published"], "only Python"),
        (["search", "{out}", "a.png"], "is no index of training pictures"),
        (["duplicates", "{out}", "--similarity", "0.9"], "is no index of training pictures"),
    ],
)
def test_problems_are_one_sentence(source, tmp_path, capsys, arguments, said):
    out = tmp_path / "index"
    out.mkdir()
    assert main([a.format(source=source, out=out) for a in arguments]) == 2
    shown = capsys.readouterr()
    assert said in shown.err and shown.err.startswith("Error: ") and not shown.out


def test_an_image_that_cannot_be_read_is_a_sentence(source, tmp_path, capsys):
    out = tmp_path / "index"
    assert main(["index", str(source), "--out", str(out), "--recipe", "pixels"]) == 0
    assert main(["search", str(out), str(source / "page.jpg")]) == 2
    assert "cannot be searched for: no JPEG" in capsys.readouterr().err
