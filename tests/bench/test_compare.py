"""A comparison against loops over the records, and what it refuses to put together."""

import csv
import io
import json
from dataclasses import replace

import click
import numpy as np
import pytest
from reference.records_of import folder, image

from sidestep.bench import tables
from sidestep.bench.compare import CHANGED, compare, load
from sidestep.bench.published import beside, of_header
from sidestep.cli.main import cli
from sidestep.errors import BadRecords
from sidestep.runs.paired import changes_to
from sidestep.similarity.intervals import clopper_pearson

LABEL = "=static|x"


def some_records(seed=0):
    """Two rules, 6 target prompts of 3 draws and 4 ordinary ones of 2."""
    r = np.random.default_rng(seed)
    rows = []
    for rule, level, strength in (("plain", 0.7, None), (LABEL, 0.4, 0.25)):
        more = {"strength": strength, "curve": strength and "static"}
        for kind, prompts, draws in (("target", 6, 3), ("ordinary", 4, 2)):
            for i in range(prompts):
                rows += [
                    image(
                        rule, f"{kind} {i}", draw, r.uniform(level - 0.3, level + 0.3),
                        int(r.integers(1, 9)), kind, nfe=int(r.integers(50, 101)),
                        change=float(r.uniform(0, 2 * CHANGED)) * (rule != "plain"),
                        spread=float(r.uniform()), **more,
                    )
                    for draw in range(draws)
                ]  # fmt: skip
    return rows


@pytest.fixture
def run(tmp_path):
    return folder(tmp_path / "run", some_records())


def test_a_line_is_what_a_loop_over_the_records_counts(run):
    header, rows = load([run])
    assert header["seed"] == 0
    plain, line = compare(rows)
    own = [r for r in rows if r.rule == LABEL]
    main = [r for r in own if r.kind == "target"]
    ordinary = [r for r in own if r.kind == "ordinary"]
    assert (line.rule, line.curve, line.strength, line.kind) == (LABEL, "static", 0.25, "target")
    assert (line.prompts, line.images, line.ordinary_images) == (6, 18, 8)
    assert line.copies == sum(r.similarity["pixels-32"] > 0.5 for r in main)
    assert (line.copy_low, line.copy_high) == clopper_pearson(line.copies, 18)
    good = [r for r in main if r.agreement <= 5 and r.similarity["pixels-32"] <= 0.5]
    assert line.good_share == pytest.approx(len(good) / 18)
    assert line.agreement_r5 == pytest.approx(sum(r.agreement <= 5 for r in main) / 18)
    assert line.ordinary_changed == pytest.approx(sum(r.change > CHANGED for r in ordinary) / 8)
    assert 0 < line.ordinary_changed < 1
    assert line.ordinary_change == pytest.approx(sum(r.change for r in ordinary) / 8)
    assert line.nfe == pytest.approx(sum(r.nfe for r in own) / 26)
    before = [r for r in rows if r.rule == "plain" and r.kind == "ordinary"]
    r5 = [sum(r.agreement <= 5 for r in part) / 8 for part in (ordinary, before)]
    assert line.ordinary_r5_change == pytest.approx(r5[0] - r5[1])
    assert line.against_plain["copy_share"].mean == pytest.approx(
        line.copy_share - plain.copy_share
    )
    assert line.against_plain["similarity_mean"].mean == pytest.approx(
        line.similarity_mean - plain.similarity_mean
    )
    assert plain.curve == "plain"
    assert (plain.plain, line.plain) == (True, False)
    assert plain.against_plain is None
    assert plain.ordinary_changed == 0


def test_the_interval_of_a_difference_holds_the_truth_as_often_as_it_says():
    # 30 prompts of 2 draws with a true difference of -0.2, over 200 repetitions. A percentile
    # bootstrap of 30 values is a little narrow: 93 to 94 % by the t distribution instead of 95 %.
    # Three standard errors of a share of 0.94 in 200 are 0.05.
    r = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        rows, plain = [], []
        for i in range(30):
            level = r.normal(0, 0.1)  # shared by the draws of a prompt
            for draw in range(2):
                base = r.normal(0.5, 0.2)
                plain.append(image("plain", f"{i}", draw, base, 1))
                lower = base - 0.2 + level + r.normal(0, 0.05)
                rows.append(image("x", f"{i}", draw, lower, 1))
        change = changes_to(rows, plain)["similarity_mean"]
        hits += change.low <= -0.2 <= change.high
    assert 0.94 - 0.05 <= hits / 200 <= 0.99


def test_pairing_uses_the_seeds_that_both_have():
    plain = [image("plain", p, d, 0.9, 1) for p in "abc" for d in range(2)]
    rows = [image("x", p, 0, 0.4, 1) for p in "ab"] + [image("x", "z", 0, 0.9, 1)]
    change = changes_to(rows, plain)
    assert change["copy_share"] == (-1, -1, -1)
    assert change["agreement_r5"] == (0, 0, 0)
    assert changes_to(rows[:1], plain) is None


def test_folders_of_one_scenario_are_put_together(tmp_path, run):
    rows = some_records()
    a = folder(tmp_path / "a", [r for r in rows if r.rule == "plain"])
    slower = [replace(r, seconds=9.0) for r in rows if r.rule == "plain"]
    b = folder(tmp_path / "b", slower + [r for r in rows if r.rule == LABEL])
    assert load([a, b])[1] == load([run])[1]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"scenario": {"name": "s1", "version": 1}}, "differ in scenario"),
        ({"scenario": {"name": "toy", "version": 2}}, "differ in scenario"),
        ({"model": {"sha256": "0"}}, "differ in model"),
        ({"versions": {"torch": "3"}}, "differ in versions"),
        ({"seed": 1}, "differ in seed"),
    ],
)
def test_mixed_runs_are_refused(tmp_path, header, words):
    run = folder(tmp_path / "run", some_records(), scenario={"name": "toy", "version": 1})
    header = {"scenario": {"name": "toy", "version": 1}} | header
    other = folder(tmp_path / "other", some_records(), **header)
    with pytest.raises(BadRecords, match=f"not of one scenario and version: they {words}"):
        load([run, other])


def test_foreign_records_in_a_folder_are_refused(tmp_path, run):
    rows = some_records()
    twice = folder(tmp_path / "twice", [*rows, rows[0]])
    with pytest.raises(BadRecords, match="holds 'plain' twice for the prompt 'target 0', draw 0"):
        load([twice])
    judged = folder(tmp_path / "judged", [*rows[:-1], replace(rows[-1], threshold=0.6)])
    with pytest.raises(BadRecords, match=r"different recipes or thresholds.*0\.5, .*above 0\.6"):
        load([judged])
    bare = folder(tmp_path / "bare", [replace(r, copy=None, agreement=None) for r in rows])
    with pytest.raises(BadRecords, match="has no scores"):
        load([bare])
    with (run / "records.jsonl").open("a") as file:
        file.write((bare / "records.jsonl").read_text().replace("7.5", "8.5"))
    with pytest.raises(BadRecords, match=r"settings that run\.json does not list"):
        load([run])
    other = folder(tmp_path / "other", some_records(seed=1))
    with pytest.raises(BadRecords, match="another result than the folders before it"):
        load([folder(tmp_path / "c", rows), other])
    part = tmp_path / "part"
    (part / "units").mkdir(parents=True)
    (part / "run.json").write_text(json.dumps({"rules": []}))
    with pytest.raises(BadRecords, match="Copy the folders of all shards into one"):
        load([part])
    with pytest.raises(BadRecords, match=r"nothing has no run\.json; give a folder"):
        load([tmp_path / "nothing"])


def without_concepts(seed=0):
    """Two rules without agreement, with a CLIP score, own pictures and prompts of each form."""
    r = np.random.default_rng(seed)
    forms = {"a": "verbatim", "b": "verbatim", "c": "template", "d": "template", "e": None}
    return [
        image(
            rule, prompt, draw, r.uniform(), None, form=form, text={"clip-score:x": r.uniform()},
            own={"pixels-32": r.uniform()} if prompt != "b" else None,
        )
        for rule in ("plain", "static") for prompt, form in forms.items() for draw in range(3)
    ]  # fmt: skip


def test_forms_stand_apart_and_unknown_agreement_is_none(tmp_path):
    _, rows = load([folder(tmp_path / "run", without_concepts())])
    lines = compare(rows)
    forms = ["verbatim", "template", None]
    assert [(x.form, x.rule) for x in lines] == [(f, n) for f in forms for n in ("plain", "static")]
    for x in lines:
        own = [r for r in rows if r.rule == x.rule and r.form == x.form]
        assert x.images == len(own) and x.prompts == len({r.prompt for r in own})
        assert x.good_share is x.agreement_r1 is x.agreement_r5 is x.ordinary_r5 is None
        assert x.text == {
            "clip-score:x": pytest.approx(np.mean([r.text["clip-score:x"] for r in own]))
        }
        assert (x.recipe, x.threshold) == ("pixels-32", 0.5)
        by_prompt = {r.prompt: [] for r in own if r.own}
        for r in own:
            if r.own:
                by_prompt[r.prompt].append(r.own["pixels-32"])
        every = [value for values in by_prompt.values() for value in values]
        assert x.own.images == len(every)
        # Wen et al.: the mean of prompts' means, here of equally many images.
        assert x.own.mean == pytest.approx(np.mean([np.mean(v) for v in by_prompt.values()]))
        assert x.own.p95 == pytest.approx(np.percentile(every, 95))
        assert x.own.share == pytest.approx(np.mean(np.array(every) > 0.5))
    changes = lines[1].against_plain
    assert set(changes) == {"copy_share", "similarity_mean", "clip-score:x"}
    change = lines[1].text["clip-score:x"] - lines[0].text["clip-score:x"]
    assert changes["clip-score:x"].mean == pytest.approx(change)
    assert [c.heading for c in tables.columns(lines)][:2] == ["rule", "form"]


def test_one_form_alone_needs_no_column_and_no_own_pictures_are_none(tmp_path):
    rows = [replace(r, form="verbatim", own=None) for r in without_concepts()]
    lines = compare(rows)
    assert [x.form for x in lines] == [None, None] and [x.own for x in lines] == [None, None]
    shown = [c.heading for c in tables.columns(lines)]
    assert "form" not in shown and "own copies" not in shown and "ordinary R@5" not in shown
    cells = {c.heading: c.cell(lines[0]) for c in tables.columns(lines)}
    assert cells["good"] == cells["R@1"] == cells["R@5"] == "-"


PUBLISHED = {
    "table": "Table 1",
    "recipes": {"similarity_p95": "SSCD of theirs", "clip": "CLIP of theirs", "fid": "FID"},
    "rows": [
        {"method": "plain", "values": {"similarity_p95": 0.65, "clip": 0.3}, "confidence": "high"},
        {"method": "static", "values": {"fid": 17.0}, "confidence": "low", "note": "a guess"},
        {"method": "not run", "values": {"clip": 0.2}, "confidence": "medium"},
    ],
}


def test_published_numbers_stand_beside_ours_under_their_own_recipes(tmp_path, capsys):
    rows = [replace(r, form=None) for r in without_concepts()]
    run = folder(tmp_path / "run", rows, published=PUBLISHED)
    plain, static = json.loads(printed(capsys, run, "--json"))
    assert plain["published"]["values"] == {"similarity_p95": 0.65, "clip": 0.3}
    assert plain["published"]["recipes"]["clip"] == "CLIP of theirs"
    assert (static["published"]["confidence"], static["published"]["note"]) == ("low", "a guess")
    header, records = load([run])
    found = beside(compare(records), of_header(header))
    assert [(b.rule, b.number, b.published, b.ours) for b in found] == [
        ("plain", "similarity_p95", 0.65, plain["similarity_p95"]),
        ("plain", "clip", 0.3, plain["text"]["clip-score:x"]),
        ("static", "fid", 17.0, None),
        ("not run", "clip", 0.2, None),
    ]
    assert found[1].measured_by == "CLIP of theirs" and found[1].ours_by == "clip-score:x"
    for form in ("table", "markdown"):
        shown = printed(capsys, run, "--format", form)
        assert "Table 1, as published and here" in shown and "0.65" in shown
        assert "clip: published with CLIP of theirs; here with clip-score:x" in shown
        assert "static: a guess" in shown
    (first, _) = csv.DictReader(io.StringIO(printed(capsys, run, "--format", "csv")))
    assert first["published_clip"] == "0.3" and first["published_confidence"] == "high"
    wrong = folder(tmp_path / "wrong", rows, published={"table": 5})
    with pytest.raises(BadRecords, match=r"published numbers in run\.json cannot be read"):
        printed(capsys, wrong)


def test_a_published_number_of_one_strength_is_not_put_beside_the_others(tmp_path):
    rows = [
        image(f"static {s}", "p", 0, 0.5, 1, curve="static", strength=s) for s in (1.0, 2.0)
    ]  # fmt: skip
    lines = compare(rows)
    for method, expected in (("static 2.0", [None, 0.5]), ("static", [0.5, 0.5])):
        one = {"method": method, "values": {"clip": 0.5}, "confidence": "high"}
        made = of_header({"published": {"table": "t", "recipes": {"clip": "c"}, "rows": [one]}})
        found = [row["published"] for row in tables.rows(lines, made)]
        assert [f and f["values"]["clip"] for f in found] == expected


def printed(capsys, *arguments):
    given = ["bench", "compare", *map(str, arguments)]
    assert cli.main(given, standalone_mode=False, obj={}) is None
    return capsys.readouterr().out


def test_programs_get_every_number(run, capsys):
    shown = json.loads(printed(capsys, run, "--json"))
    assert shown == json.loads(printed(capsys, run, "--format", "json"))
    lines = compare(load([run])[1])
    assert [r["rule"] for r in shown] == ["plain", LABEL]
    assert shown[1]["copy_high"] == lines[1].copy_high
    assert (
        shown[1]["against_plain"]["good_share"]["low"] == lines[1].against_plain["good_share"].low
    )
    first, second = csv.DictReader(io.StringIO(printed(capsys, run, "--format", "csv")))
    assert second["rule"] == f"'{LABEL}"  # a spreadsheet would run it
    assert float(second["copy_share_change_high"]) == lines[1].against_plain["copy_share"].high
    assert first["copy_share_change_high"] == ""


def test_people_get_a_table(run, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = printed(capsys, run)
    assert max(map(len, shown[: shown.index("n images")].splitlines())) <= 80
    assert "no room here for" in shown
    assert f"over {CHANGED} away from plain" in shown
    table = printed(capsys, run, "--format", "markdown").splitlines()
    assert len(table) == 4
    assert table[3].startswith("| =static\\|x | 18 | ")
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert table[0].count("|") == len(tables.columns(compare(load([run])[1]))) + 1


def test_the_command_needs_a_folder():
    with pytest.raises(click.MissingParameter):
        cli.main(["bench", "compare"], standalone_mode=False, obj={})
