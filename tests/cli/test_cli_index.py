"""`sidestep index`, `search`, `duplicates` and `hold-out`, as a user types them."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from reference.toy_index import write_rows
from similarity.test_sscd_published import Tiny

from sidestep.audit import embedding
from sidestep.audit.index import open_index
from sidestep.cli.main import main
from sidestep.errors import SidestepWarning
from sidestep.similarity.calibration import calibrate
from sidestep.sources.decoders import look

pytest.importorskip("pyarrow")
pytest.importorskip("faiss")


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding processes have tests of their own."""
    monkeypatch.setattr(embedding, "looks", lambda tasks, side, _: (look(t, side) for t in tasks))


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


@pytest.mark.slow  # starts Ray
def test_index_on_ray_is_the_same_index(source, tmp_path, capsys):
    pytest.importorskip("ray")
    hashes = []
    for name, extra in {"alone": [], "ray": ["--engine", "ray", "--workers", "1"]}.items():
        out = tmp_path / name
        assert main(["index", str(source), "--out", str(out), "--recipe", "pixels", *extra]) == 0
        hashes.append(open_index(out).hash)
    assert len(set(hashes)) == 1


def test_index_search_and_duplicates(source, tmp_path, capsys):
    out = tmp_path / "index"
    arguments = ["index", str(source), "--out", str(out), "--recipe", "pixels"]
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "images": 8, "new": 8, "unchanged": 0, "recaptioned": 0, "removed": 0,
        "unreadable": {"no JPEG, PNG or WEBP image": 1}, "recipe": "pixels-32", "side": 256,
        "tiles": None,
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


def test_an_index_of_tiles_shows_the_windows_of_a_local_copy(tmp_path, capsys):
    folder, out = tmp_path / "images", tmp_path / "tiles"
    folder.mkdir()
    blocks = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    images = blocks.repeat(8, 1).repeat(8, 2)
    for number in range(3):
        Image.fromarray(images[number]).save(folder / f"[{number}].png")
    images[3, 16:48, 24:56] = images[2, :32, 32:]
    Image.fromarray(images[3]).save(tmp_path / "made.png")
    Image.fromarray(np.full((64, 64, 3), 9, np.uint8)).save(tmp_path / "flat.png")
    arguments = ["index", str(folder), "--out", str(out), "--recipe", "pixels", "--side", "64"]
    assert main([*arguments, "--tiles", "3"]) == 0
    assert "tiles" in capsys.readouterr().out
    made = [str(tmp_path / "made.png"), str(tmp_path / "flat.png")]
    training = ["--source", str(folder)]
    assert main(["search", str(out), *made, *training, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    found, nothing = answer["found"]
    assert answer["tiles"] == 27 and found["path"] == "[2].png"
    assert found["similarity"] == pytest.approx(1, abs=1e-3)  # reduced to 24 pixels a tile
    here, there = found["here"], found["there"]
    assert here["side"] == there["side"] == 0.25
    # A pixel of 32 reduced to 24 for half the side.
    assert here["left"] - there["left"] == pytest.approx(-0.125, abs=1 / 48)
    assert here["top"] - there["top"] == pytest.approx(0.25, abs=1 / 48)
    assert nothing == {"image": made[1], "similarity": None}
    assert main(["search", str(out), *made, *training]) == 0
    shown = capsys.readouterr().out
    assert ", 25" in shown and "[2].png" in shown and "none" in shown
    assert main(["search", str(out), *made]) == 2
    assert "give them with --source" in capsys.readouterr().err
    assert main(["search", str(out), *made, "--image-column", "x"]) == 2
    assert "--image-column is of --source" in capsys.readouterr().err
    assert main(["search", str(out), *made, "--k", "2"]) == 2
    assert "--k is for an index of whole pictures" in capsys.readouterr().err
    assert main(["duplicates", str(out), "--similarity", "0.99"]) == 0
    assert "27 tiles" in capsys.readouterr().out
    assert main(arguments) == 2
    assert "is of 3 x 3 tiles of each picture, and whole pictures came" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["index", "{out}", "--out", "{source}2", "--recipe", "pixels"], "nothing to read"),
        (["index", "{source}", "--out", "{out}", "--recipe", "sscd-published"], "lacks path"),
        (["index", "{source}", "--out", "{out}", "--recipe", "pixels:sid=9"], "has no sid; its"),
        (["index", "{source}", "--out", "{out}", "--recipe", "pixels:side=1"], "at least 2 x 2"),
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


def test_a_recipe_that_nobody_knows(source, tmp_path, capsys):
    assert main(["index", str(source), "--out", str(tmp_path / "i"), "--recipe", "pixel"]) == 2
    assert "there is no similarity named 'pixel'; did you mean pixels?" in capsys.readouterr().err


def test_a_recipe_with_settings_is_said_again_to_search(source, tmp_path, capsys):
    out, one = str(tmp_path / "index"), str(next(source.glob("*.png")))
    assert main(["index", str(source), "--out", out, "--recipe", "pixels:side=16"]) == 0
    assert main(["search", out, one]) == 2
    assert (
        "is of pixels-16, which needs settings; say them with --recipe" in capsys.readouterr().err
    )
    assert main(["search", out, one, "--recipe", "pixels:side=16", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recipe"] == "pixels-16"
    assert main(["search", out, one, "--recipe", "pixels:side=8"]) == 2
    assert "their similarities do not compare" in capsys.readouterr().err


def test_published_weights_of_sscd(source, tmp_path, capsys):
    """A tiny network stands in for them; nobody publishes a hash of these weights."""
    weights = tmp_path / "large.pt"
    torch.jit.script(Tiny(1024)).save(str(weights))
    recipe = f"sscd-published:path={weights},weights=disc_large,preset=dcr"
    out, one = str(tmp_path / "index"), str(next(source.glob("*.png")))
    with pytest.warns(SidestepWarning):
        assert main(["index", str(source), "--out", out, "--recipe", recipe]) == 0
        capsys.readouterr()
        assert main(["search", out, one, "--recipe", recipe, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["recipe"] == "sscd-disc-large-dcr" and found["found"][0]["similarity"] > 0.999


def test_an_image_that_cannot_be_read_is_a_sentence(source, tmp_path, capsys):
    out = tmp_path / "index"
    assert main(["index", str(source), "--out", str(out), "--recipe", "pixels"]) == 0
    assert main(["search", str(out), str(source / "page.jpg")]) == 2
    assert "cannot be searched for: no JPEG" in capsys.readouterr().err


def test_hold_out(source, tmp_path, capsys):
    out = tmp_path / "split"
    arguments = ["hold-out", str(source), "--out", str(out), "--recipe", "pixels"]
    arguments += ["--similarity", "0.99"]
    assert main([*arguments, "--share", "0.5", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["train"], answer["held_out"], answer["links"]) == (3, 4, 7)
    assert answer["groups"] == 5 and answer["largest"] == 3
    assert main([*arguments, "--share", "0.5"]) == 0
    shown = capsys.readouterr()
    assert "held-out" in shown.out and "7 pictures are hard links" in shown.out
    assert "on neither side, because they cannot be read: 1 (no JPEG" in shown.err
    # The rate that 4 controls allow, as it is typed.
    assert "needs 99 controls" in shown.err and "allow --rate 0.2;" in shown.err
    assert calibrate("pixels", np.zeros(4), 0.2).rank == 1
    assert main(arguments) == 2
    assert "has share 0.5, and share 0.1 came" in capsys.readouterr().err
    arguments[3] = str(source / "split")
    assert main(arguments) == 2
    assert "lies inside" in capsys.readouterr().err
    assert main(["index", str(source), "--out", str(source / "split"), "--recipe", "pixels"]) == 2
    assert "lies inside" in capsys.readouterr().err
    assert not (source / "split").exists()


@pytest.mark.slow  # trains and scans structures of FAISS over long rows
def test_approximate_search_prints_its_recall(tmp_path, capsys):
    rows = np.random.default_rng(0).standard_normal((1100, 3 * 32 * 32))
    rows -= rows.mean(axis=1, keepdims=True)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    out = tmp_path / "index"
    write_rows(out, rows.astype(np.float16), 300, recipe="pixels-32", side=32)
    pixels = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    search = ["search", str(out), str(tmp_path / "a.png"), "--k", "1"]
    cache = ["--cache", str(tmp_path / "cache")]
    assert main([*search, "--json"]) == 0
    exact = json.loads(capsys.readouterr().out)
    assert exact["search"] == "exact" and "recall" not in exact
    for way in ("compressed", "pruned"):
        assert main([*search, "--approximate", way, *cache, "--json"]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert answer["search"] == way
        assert [x["cosine"] for x in answer["recall"]] == [0.5, 0.6, 0.7, 0.8, 0.9, 0.95]
        assert all(x["low"] <= x["found"] / x["of"] <= x["high"] for x in answer["recall"])
    assert len(list((tmp_path / "cache").glob("*.faiss"))) == 2
    assert main([*search, "--approximate", "pruned", *cache]) == 0
    assert "Recall of pruned search" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--workers", "2"], "add --engine ray"),
        (["--approximate", "pruned", "--engine", "ray"], "leave out --engine ray"),
        (["--cache", "c"], "add --approximate"),
    ],
)
def test_options_of_search_that_do_not_go_together(capsys, options, said):
    assert main(["search", "index", "a.png", *options]) == 2
    assert said in capsys.readouterr().err
