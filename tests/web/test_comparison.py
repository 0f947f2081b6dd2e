"""The page and the charts of a comparison."""

import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from reference.records_of import folder, image

from sidestep.bench.compare import compare, load
from sidestep.bench.front import hypervolume
from sidestep.cli.main import cli
from sidestep.errors import BadRecords
from sidestep.web import axes, curves, drawing
from sidestep.web.comparison import limits, render, verdict

NASTY = "a <b>bold</b> & $x$"


def some_records():
    """Plain guidance, a method of three strengths, and one with a name out of HTML."""
    r = np.random.default_rng(0)
    rows = []
    methods = [("plain", None, None, 0.8, 0.0), (NASTY, None, None, 0.6, 0.2)]
    methods += [(f"static {s}", "static", s, 0.9 - s, s / 2) for s in (0.9, 0.1, 0.5)]
    for rule, curve, strength, level, change in methods:
        rows += [
            image(
                rule, f"{kind} {i}", draw, np.clip(r.normal(level, 0.2), 0, 1),
                int(r.integers(1, 9)), kind, curve=curve, strength=strength, change=change,
            )
            for kind in ("target", "ordinary") for i in range(6) for draw in range(2)
        ]  # fmt: skip
    return rows


@pytest.fixture
def run(tmp_path):
    return folder(tmp_path / "run", some_records(), scenario={"name": "toy", "version": 2}, steps=9)


@pytest.fixture
def lines(run):
    return compare(load([run])[1])


def test_curves_are_methods_over_their_strengths(lines):
    made = curves.curves(lines)
    assert made[0].name == "plain"
    static = next(c for c in made if c.name == "static")
    assert [x.strength for x in static.lines] == [0.1, 0.5, 0.9]
    own = [(x.copy_share, x.agreement_r5) for x in lines if x.curve == "static"]
    assert static.area == hypervolume(own)
    assert [c.area for c in made[1:]] == sorted((c.area for c in made[1:]), reverse=True)


def test_no_line_beats_the_front(lines):
    top = curves.best(lines)
    assert top
    for x in top:
        assert not [
            y for y in lines
            if y.copy_share <= x.copy_share and y.agreement_r5 >= x.agreement_r5
            and (y.copy_share, y.agreement_r5) != (x.copy_share, x.agreement_r5)
        ]  # fmt: skip


def test_the_page_is_one_safe_file_with_every_number(run, lines):
    header, _ = load([run])
    page = render(header, lines)
    assert page == render(header, lines)
    assert "<title>Comparison: toy</title>" in page
    assert "scenario version 2" in page
    assert "<script" not in page
    assert "<b>bold" not in page
    assert not re.search(r'(?:src|href)="(?!#|data:)', page)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(set(ids)) == len(ids)
    table = page[page.index('<table class="numbers">') : page.index("</table>")]
    assert table.count("<tr>") == 1 + len(lines)
    # The overview twice, each method once, cost and harm.
    assert page.count('<svg role="img"') == 2 + 3 + 1
    assert not re.search("#01020[0-9]", page)


def test_the_verdict_names_numbers_of_the_lines(lines):
    said = " ".join(verdict(lines))
    plain = lines[0]
    assert f"copies a training picture in {100 * plain.copy_share:.0f}" in said
    best = max(lines[1:], key=lambda x: x.good_share)
    assert f"“{best.rule}” has the most good images" in said
    assert verdict(lines[:1])
    assert not any("same number of images" in s for s in limits(lines))


def test_a_run_without_plain_guidance_or_ordinary_prompts_has_its_charts(tmp_path):
    rows = [r for r in some_records() if r.rule != "plain" and r.kind == "target"]
    header, records = load([folder(tmp_path / "part", rows)])
    page = render(header, compare(records))
    assert "Plain guidance copies" not in page
    assert "ordinary prompts: R@5" not in page


def test_pictures_can_be_opened_and_are_not_empty(lines):
    for figure in (curves.overview(lines), curves.each(lines), curves.cost(lines)):
        file = drawing.png(figure)
        assert file[:4] == b"\x89PNG"


def test_the_command_writes_a_page_and_pictures(run, tmp_path, capsys):
    out = tmp_path / "charts"
    cli.main(["bench", "curves", str(run), "--out", str(out)], standalone_mode=False, obj={})
    shown = capsys.readouterr().out
    for name in ("comparison.html", "curves.png", "curves-each.png", "cost.png"):
        assert str(out / name) in shown
        assert (out / name).stat().st_size > 5000
    picture = np.asarray(Image.open(out / "curves.png").convert("RGB"))
    assert (picture == (0x1F, 0x5F, 0xA8)).all(axis=2).sum() > 100  # the front is drawn
    with pytest.raises(BadRecords):
        arguments = [str(tmp_path / "no"), "--out", str(tmp_path / "new")]
        cli.main(["bench", "curves", *arguments], standalone_mode=False, obj={})
    assert not (tmp_path / "new").exists()


def test_where_no_concepts_are_known_the_clip_score_is_the_agreement(tmp_path):
    rows = [
        replace(r, agreement=None, text={"clip-score:x": 0.2 + 0.01 * i})
        for i, r in enumerate(r for r in some_records() if r.kind == "target")
    ]
    header, records = load([folder(tmp_path / "run", rows)])
    lines = compare(records)
    up = axes.agreement(lines)
    assert (up.label, up.share) == ("clip-score:x", False)
    static = next(c for c in curves.curves(lines) if c.name == "static")
    own = [(x.copy_share, x.text["clip-score:x"]) for x in lines if x.curve == "static"]
    assert static.area == hypervolume(own) > 0
    best = min(lines[1:], key=lambda x: x.copy_share)
    said = " ".join(verdict(lines))
    assert f"“{best.rule}” copies least" in said
    assert f"{best.text['clip-score:x']:.3f} (clip-score:x)" in said
    assert "clip-score:x" in render(header, lines)
    bare = compare([replace(r, text={}) for r in records])
    with pytest.raises(BadRecords, match="nothing to draw copies against"):
        render(header, bare)
