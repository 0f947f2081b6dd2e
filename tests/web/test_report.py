import html
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from scipy.stats import beta

from sidestep.errors import BadRecords
from sidestep.runs.records import Record
from sidestep.sampling.trace import Trace
from sidestep.web import cells, report
from sidestep.web.report import write_report
from sidestep.web.run import THUMBNAIL, load

PROMPTS = ["a red fox", "an owl"]
HOSTILE = "<script>alert(1)</script>\" onerror='x' </style>{{ 7*7 }}"


class Page(HTMLParser):
    """The elements of a page, its readable text and its policy."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.pieces: list[str] = []
        self.feed(text)
        self.text = re.sub(r"\s+", " ", " ".join(self.pieces))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {k: v or "" for k, v in attrs}))

    def handle_data(self, data):
        if self.elements and self.elements[-1][0] != "style":
            self.pieces.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def page(path: Path) -> Page:
    return Page(write_report(path).read_text(encoding="utf-8"))


def test_the_report_asks_the_network_for_nothing_and_forbids_scripts(folder):
    text = write_report(folder.path).read_text(encoding="utf-8")
    # A namespace is a name and not an address, so only what a browser would load counts.
    assert not re.search(r"""(src|href|action|data|poster)\s*=\s*["']?\s*(https?:)?//""", text)
    assert not re.search(r"url\(\s*['\"]?(?!#)", text)
    assert "@import" not in text
    parsed = Page(text)
    tags = {name for name, _ in parsed.elements}
    assert not tags & {
        "script",
        "link",
        "iframe",
        "object",
        "embed",
        "form",
        "base",
        "foreignobject",
    }
    policy = [m["content"] for m in parsed.all("meta") if "http-equiv" in m]
    assert policy[0].startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    assert all(image["src"].startswith("data:image/") for image in parsed.all("img"))


def test_text_of_others_stays_text(empty):
    empty.fill([HOSTILE, "a cat"])
    lines = (empty.path / "records.jsonl").read_text().splitlines()
    names = {"plain": HOSTILE, "static": "$x^{ -- static"}
    rows = [json.loads(line) for line in lines]
    rows = [row | {"rule": names.get(row["rule"], row["rule"])} for row in rows]
    (empty.path / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    empty.header(
        notes=[HOSTILE], model={"name": HOSTILE}, versions={HOSTILE: HOSTILE}, extra=HOSTILE,
        rules=[
            {"rule": names.get(rule, rule), "trace": f"traces/{name}.safetensors"}
            for rule, name in [("plain", "plain"), ("static", "static")]
        ],
    )  # fmt: skip
    parsed = page(empty.path)
    assert len(load(empty.path).traces) == 3  # the labels reach the charts too
    assert not parsed.all("script")
    assert not [a for _, attributes in parsed.elements for a in attributes if a.startswith("on")]
    assert parsed.text.count("alert(1)") >= 5
    assert "$x^{ -- static" in parsed.text


def test_every_rule_has_a_column_a_chart_a_point_and_a_row(folder):
    parsed = page(folder.path)
    svg_texts = re.findall(r"<text[^>]*>([^<]*)</text>", write_report(folder.path).read_text())
    names = [svg["aria-label"] for svg in parsed.all("svg") if "aria-label" in svg]
    for rule in load(folder.path).rules:
        assert parsed.text.count(rule) >= 5
        assert f"gap over time under {rule}" in names
        assert rule in map(html.unescape, svg_texts)
    assert "rules by share of copies and agreement, memorized captions" in names


def test_the_verdict_states_the_counted_shares(folder):
    text = page(folder.path).text
    rows = [r for r in folder.records if r.kind == "target"]
    plain = [r for r in rows if r.rule == "plain"]
    k, n = sum(bool(r.copy) for r in plain), len(plain)
    low, high = beta.ppf(0.025, k, n - k + 1), beta.ppf(0.975, k + 1, n - k)
    assert (
        f"Plain guidance copied a training picture in {100 * k / n:.0f}\N{NO-BREAK SPACE}% (95 % "
        f"interval {100 * low:.0f}\N{NO-BREAK SPACE}% to {100 * high:.0f}\N{NO-BREAK SPACE}%) of "
        f"{n} images made from memorized captions."
    ).replace("\N{NO-BREAK SPACE}", " ") in text
    good = [r for r in rows if r.rule == "dynamic, opposite" and not r.copy and r.agreement <= 5]
    assert "The best rule, “dynamic, opposite”, copied in 0 %" in text
    assert "kept 100 % of plain guidance's agreement" in text  # the same places in every rule
    plain_good = [r for r in plain if not r.copy and r.agreement <= 5]
    assert (
        f"With it, {100 * len(good) / n:.0f} % of the images are good: on the prompt and no copy "
        f"(plain guidance: {100 * len(plain_good) / n:.0f} %)."
    ) in text
    assert "so chance alone does not explain" in text or "too small to tell" in text


def test_a_run_without_copies_claims_no_effect(empty):
    empty.fill(PROMPTS, lambda row: replace(row, copy=False))
    text = page(empty.path).text
    assert "this run cannot show that a rule prevents copies" in text
    assert "explain the difference" not in text


def test_a_sample_that_breaks_out_of_the_chart_is_said(folder):
    file = folder.path / "traces/plain.safetensors"
    trace = Trace.load(file)
    trace.gap[5, 0] = 300.0
    trace.save(file)
    assert "Out of the chart at the top: 1 drawn sample, up to 300." in page(folder.path).text


def test_a_copy_is_told_by_frame_word_and_alternative_text(folder):
    parsed = page(folder.path)
    shown = [r for r in folder.records if r.draw == 0]
    copies = [r for r in shown if r.copy]
    assert copies
    assert sum(f.get("class") == "copy" for f in parsed.all("figure")) == len(copies)
    alts = [image["alt"] for image in parsed.all("img")]
    assert sum(": copy, similarity 0.90 to training picture target/00" in a for a in alts) == len(
        copies
    )
    assert sum(": no copy, similarity 0.30" in a for a in alts) == len(shown) - len(copies)


def test_ids_are_unique_and_references_meet_them(folder):
    parsed = page(folder.path)
    ids = [a["id"] for _, a in parsed.elements if "id" in a]
    assert len(ids) == len(set(ids))
    wanted = {v for _, a in parsed.elements for v in re.findall(r"url\(#([^)]*)\)", str(a))}
    wanted |= {a["xlink:href"][1:] for _, a in parsed.elements if "xlink:href" in a}
    assert wanted <= set(ids)


def test_the_same_run_gives_the_same_bytes(folder, tmp_path):
    first = write_report(folder.path).read_bytes()
    other = write_report(folder.path, tmp_path / "other.html")
    assert other == tmp_path / "other.html"
    assert other.read_bytes() == first


def test_the_size_is_that_of_its_pictures(folder):
    size = write_report(folder.path).stat().st_size
    images = sum(f.stat().st_size for f in folder.path.glob("images/**/*.png"))
    # base64 adds a third; half the draws show; charts and words take less than 400 kB here.
    assert size < images * 4 / 3 + 400_000


def test_a_run_without_scores_has_pictures_and_charts_only(unscored):
    parsed = page(unscored.path)
    assert "24 pictures of 4 prompts with 3 rules. They were not compared" in parsed.text
    assert "training picture" not in [i["alt"] for i in parsed.all("img")]
    assert len(parsed.all("img")) == 4 * 3
    assert not parsed.all("figure")[0].get("class")
    assert "Privacy against agreement" not in parsed.text
    assert "Clopper" not in parsed.text
    assert "gap over time under plain" in str(parsed.all("svg"))


def test_a_partly_scored_run_says_what_it_leaves_out(empty):
    def edit(row: Record) -> Record:
        return replace(row, copy=None) if row.rule == "static" else row

    empty.fill(["a fox", "an owl"], edit)
    text = page(empty.path).text
    assert "4 of 12 pictures have no scores; they are shown, but not counted" in text


def test_a_record_file_cut_in_half_names_the_line_and_leaves_the_earlier_report(folder):
    before = write_report(folder.path).read_bytes()
    file = folder.path / "records.jsonl"
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    line = data[: len(data) // 2].count(b"\n") + 1
    with pytest.raises(BadRecords, match=rf"line {line} of {line}: not a whole JSON record"):
        write_report(folder.path)
    assert (folder.path / "report.html").read_bytes() == before


def test_what_is_missing_is_said(folder):
    (folder.path / "run.json").unlink()
    (folder.path / "traces/plain.safetensors").write_bytes(b"cut")
    (folder.path / "traces/static.safetensors").unlink()
    dynamic = [r for r in folder.records if r.rule == "dynamic, opposite"]
    folder.trace("dynamic, opposite", dynamic[:-1])
    text = page(folder.path).text
    assert "The run has no run.json" in text
    assert "“plain”: traces/plain.safetensors is not a complete trace file" in text
    assert "“static”: the run has no file traces/static.safetensors" in text
    assert "has 7 samples and the records have 8" in text


@pytest.mark.parametrize("value", [None, 3, "text", [], [1, "a"], {}, {"a": None}, [{"rule": 1}]])
def test_odd_optional_fields_do_not_break_the_report(folder, value):
    names = ("created", "versions", "model", "seed", "steps", "scale", "calibration", "rules",
             "references", "agreement_ceiling", "notes", "extra")  # fmt: skip
    folder.header(**dict.fromkeys(names, value))
    assert "plain" in page(folder.path).text


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_a_damaged_header_is_an_error(folder, text):
    (folder.path / "run.json").write_text(text)
    with pytest.raises(BadRecords, match=r"run\.json"):
        write_report(folder.path)


@pytest.mark.parametrize("name", ["../secret.png", "/etc/hostname", "images/../../secret.png"])
def test_a_report_carries_no_file_from_outside_its_run(empty, name):
    empty.fill(["a fox"], lambda row: replace(row, nearest_image=name))
    empty.header()
    with pytest.raises(BadRecords, match="outside the run folder"):
        write_report(empty.path)


def test_a_file_that_is_no_picture_is_an_error(folder):
    path = folder.path / folder.records[0].image
    path.write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    with pytest.raises(BadRecords, match="is not a picture that can be read"):
        write_report(folder.path)
    path.unlink()
    with pytest.raises(BadRecords, match="is not a picture that can be read"):
        write_report(folder.path)


def test_large_runs_show_a_part_and_say_how_much(empty, monkeypatch):
    monkeypatch.setattr(cells, "MAX_PICTURES", 40)  # 4 columns, so 10 prompts
    monkeypatch.setattr(report, "MAX_CURVES", 5)
    empty.fill([f"prompt {i}" for i in range(13)])
    parsed = page(empty.path)
    assert len(parsed.all("img")) == 40
    assert "2 more memorized captions" in parsed.text
    assert "10 of 13 prompts are in this report" in parsed.text
    assert "5 of 26 samples drawn" in parsed.text


def test_large_pictures_are_shrunk(folder):
    name = folder.records[0].image
    folder.picture(name, side=800)
    small = load(folder.path).data_uri(name)
    assert small.startswith("data:image/jpeg;base64,")
    # Noise hardly compresses: at most two bytes a pixel here, a third more as base64.
    assert len(small) < THUMBNAIL**2 * 2 * 4 / 3


def test_a_rule_that_never_opens_is_counted(empty):
    def edit(row: Record) -> Record:
        if row.rule == "dynamic, opposite":
            return replace(row, opened_by="never", transition=None, transition_time=None)
        return row

    text = page(empty.fill(["a fox"], edit).path).text
    assert "Memorized captions: 2 never on, 2 of 2 samples drawn." in text
    assert "2 never" in text


def test_a_trace_without_a_finite_gap_still_has_a_chart(empty):
    empty.fill(["a fox"])
    for file in empty.path.glob("traces/*"):
        trace = Trace.load(file)
        replace(trace, gap=torch.full_like(trace.gap, torch.nan)).save(file)
    assert "No gap where the rule needed only one" in page(empty.path).text
