"""The report of an audit: all of the evidence, as text that stays text, in one file."""

import base64
import hashlib
import html
import re
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image
from web.bundles import CAPTIONS, changed, evidence, finding, sha, write

from sidestep.audit import canonical
from sidestep.audit.evidence import Edition, Evidence, Group, Share
from sidestep.audit.sums import SIGNATURES
from sidestep.errors import BadRecords
from sidestep.web import exhibits, figures, pictures
from sidestep.web.evidence import MAX_ROWS, render, write_evidence_report
from sidestep.web.visible import CLIP, visible

OVERRIDE, ISOLATE, ZERO_WIDTH = "\u202e", "\u2067", "\u200b"
HOSTILE = (
    "<script>alert(1)</script>\" onerror='x' </style>{{ 7*7 }}&amp;<!--"
    f"{OVERRIDE}desrever{ISOLATE}{ZERO_WIDTH}\x00"
)
replace = msgspec.structs.replace


class Page(HTMLParser):
    """The elements of a page, its readable text and its headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.pieces: list[str] = []
        self.feed(text)
        self.text = re.sub(r"\s+", " ", " ".join(self.pieces))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {k: v or "" for k, v in attrs}))

    def handle_data(self, data):
        if self.elements and self.elements[-1][0] not in ("style", "script"):
            self.pieces.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def bundle(tmp_path):
    return write(tmp_path / "audit", evidence())


def made(folder, what):
    return Page(write_evidence_report(write(folder, what)).read_text(encoding="utf-8"))


def leaves(value: Any, path: str = ""):
    """(path, value) of everything in a JSON value, names of settings and levels included."""
    match value:
        case dict():
            for key, one in value.items():
                yield f"{path}.{key} (name)", key
                yield from leaves(one, f"{path}.{key}")
        case list() | tuple():
            for number, one in enumerate(value):
                yield from leaves(one, f"{path}[{number}]")
        case _:
            yield path, value


def forms(value: Any) -> set[str]:
    """The ways in which a page may write a value."""
    match value:
        case bool() | None:
            return set()
        case int():
            return {str(value), f"{value:,}"}
        case float():
            numbers = {f"{value:.{n}f}" for n in (1, 3)} | {f"{value:.4g}", figures.signed(value)}
            return numbers | {figures.percent(value).replace("\xa0", " "), figures.chance(value)}
        case _:
            return {value.replace("\xa0", " "), figures.short(value), figures.when(value)}


def test_every_field_of_the_evidence_is_on_the_page(bundle):
    whole = Evidence.read(bundle)
    # Each text and each number of its own, so that one field cannot stand in for another.
    page = Page(write_evidence_report(bundle).read_text(encoding="utf-8"))
    shown = re.sub(r"\s+", " ", page.text)
    fields = msgspec.to_builtins(whole)
    names = {f for _, f in struct_fields(Evidence)}
    given = {
        path.rpartition(".")[2].partition("[")[0] for path, v in leaves(fields) if v is not None
    }
    assert names - given - {"edition", "full", "mode", "settle"} <= {
        # These hold others.
        f"{n}"
        for n in names
        if any(f".{n}." in p or f".{n}[" in p for p, _ in leaves(fields))
    }
    missing = [
        (path, value)
        for path, value in leaves(fields)
        if forms(value)
        and not (path.endswith("(name)") and value in names)
        # Files are inlined and listed; calibration's and settings' names lose their underscores.
        and not any(
            re.sub(r"[\s_]+", " ", form) in shown.replace("_", " ") for form in forms(value)
        )
        and not path.endswith(".state")
    ]
    assert missing == []
    assert "✕ Finding" in shown
    for flag in ("exact: every training picture", "local copy", "enough", "Confirmed:"):
        assert flag in shown


def struct_fields(struct):
    """(struct, field) of a structure and of all that it holds."""
    for field in msgspec.structs.fields(struct):
        yield struct, field.name
        for inner in re.findall(r"sidestep\.audit\.evidence\.(\w+)", str(field.type)):
            one = getattr(__import__("sidestep.audit.evidence", fromlist=[inner]), inner)
            yield from struct_fields(one)


@pytest.mark.slow
def test_a_field_that_changes_changes_the_page(bundle):
    """Each field alone: what the page does not depend on, it does not show."""
    whole = Evidence.read(bundle)
    bare = tuple(
        replace(
            f, training=replace(f.training, picture=None),
            exhibits=tuple(replace(x, picture=None) for x in f.exhibits),
        )
        for f in whole.findings[:2]
    )  # fmt: skip
    fields = msgspec.to_builtins(replace(whole, findings=bare, records={}))
    before, seen = render(msgspec.convert(fields, Evidence), bundle), set()
    for path, value in leaves(fields):
        field = re.sub(r"\[\d+\]", "[]", path)
        if field in seen or path.endswith("(name)") or value is None or field == ".verdict.state":
            continue
        # Of two findings the second is the local one; of all settings the first is the chosen one.
        seen.add(field)
        copy = msgspec.json.decode(msgspec.json.encode(fields))
        *way, last = re.findall(r"[^.\[\]]+|\[\d+\]", path)
        place = copy
        for key in way:
            place = place[int(key[1:-1]) if key.startswith("[") else key]
        last = int(last[1:-1]) if last.startswith("[") else last
        place[last] = (
            not value
            if isinstance(value, bool)
            else {str: f"{value}x", int: 98_765, float: 0.987654}[type(value)]
        )
        assert render(msgspec.convert(copy, Evidence), bundle) != before, path
    assert len(seen) > 120


def test_the_page_asks_the_network_for_nothing_and_allows_one_script(bundle):
    text = write_evidence_report(bundle).read_text(encoding="utf-8")
    assert not re.search(r"""(src|href|action|data|poster)\s*=\s*["']?\s*(https?:)?//""", text)
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org)", text)
    page = Page(text)
    tags = {name for name, _ in page.elements}
    assert not tags & {"link", "iframe", "object", "embed", "form", "base", "a"}
    (script,) = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy(page) == BARE.replace("base-uri", f"script-src 'sha256-{digest}'; base-uri")
    for way in (
        "fetch",
        "XMLHttp",
        "import",
        "Storage",
        "cookie",
        "indexedDB",
        "eval",
        "innerHTML",
    ):
        assert way not in script
    assert page.all("img")
    assert all(i["src"].startswith("data:image/") and i["alt"] for i in page.all("img"))


BARE = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action "
BARE += "'none'"


def policy(page):
    (content,) = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    return content


def test_where_nothing_can_be_judged_no_script_is_allowed(tmp_path):
    none = replace(evidence(0), recommendation=None, tried=())
    lost = replace(evidence(1), findings=(
        replace(finding(0), training=replace(finding(0).training, picture=None)),
    ))  # fmt: skip
    edition = replace(evidence(1), edition=Edition(mode="blur", full=sha(8)))
    for name, one in (("none", none), ("lost", lost), ("edition", edition)):
        page = made(tmp_path / name, one)
        assert policy(page) == BARE
        assert not {"script", "input", "button", "fieldset"} & {tag for tag, _ in page.elements}


def test_what_only_the_script_can_use_is_hidden_without_it(bundle):
    page = Page(write_evidence_report(bundle).read_text(encoding="utf-8"))
    assert len(page.all("fieldset")) == 12
    assert all("hidden" in one for one in page.all("fieldset"))
    assert ["hidden" in d for d in page.all("div") if d.get("id") == "reviewing"] == [True]


def hostile(value: Any, name: str = "") -> Any:
    """Every text of the evidence made hostile, but for names of files and what decides."""
    if name in {"state", "picture", "records", "edition"}:
        return value
    match value:
        case str():
            return HOSTILE + value
        case dict():
            return {
                (HOSTILE + k if name in {"settings", "unreadable", "versions"} else k):
                hostile(v, k)
                for k, v in value.items()
            }  # fmt: skip
        case list() | tuple():
            return [hostile(v, name) for v in value]
        case _:
            return value


def test_text_of_others_stays_text(tmp_path):
    folder = write(tmp_path / "audit", evidence())
    texts = hostile(msgspec.to_builtins(evidence()))
    texts["search"]["calibration"]["threshold"] = HOSTILE
    (folder / "audit.json").write_bytes(canonical.to_bytes(texts))
    text = write_evidence_report(folder).read_text(encoding="utf-8")
    page = Page(text)
    assert text.count("<script>") == text.count("</script>") == len(page.all("script")) == 1
    assert not [a for _, given in page.elements for a in given if a.startswith("on")]
    assert text.count("<style>") == text.count("</style>") == 1
    assert "<!--" not in text
    assert page.text.count("alert(1)") > 120
    assert "{{ 7*7 }}" in page.text
    for mark in (OVERRIDE, ISOLATE, ZERO_WIDTH, "\x00"):
        assert mark not in text
    assert r"\u202edesrever\u2067\u200b\u0000" in page.text


def test_long_and_empty_texts(tmp_path):
    long = "a" * 50_000
    one = finding(0)
    one = replace(
        one, training=replace(one.training, caption=long, path="p" * 5000),
        prompts=(Group(name="", share=Share.count(1, 4)),),
    )  # fmt: skip
    page = made(tmp_path / "audit", replace(evidence(), findings=(one,)))
    assert "a" * CLIP + "… (50,000 characters)" in page.text
    assert "a" * (CLIP + 1) not in page.text
    assert "(no prompt)" in page.text


def test_hidden_marks_are_written_out_and_scripts_stay():
    assert visible("a\u202eb\ud800\ufeff") == r"a\u202eb\ud800\ufeff"
    joined = ("\u0645\u06cc\u200c\u062e", "\U0001f469\u200d\U0001f52c")
    for text in ("Korčula", "日本語", "a\nb", "é“”…", *joined):
        assert visible(text) == text


def test_the_same_bundle_gives_the_same_bytes(bundle, tmp_path):
    first = write_evidence_report(bundle).read_bytes()
    assert write_evidence_report(bundle, tmp_path / "other.html").read_bytes() == first
    assert write_evidence_report(write(tmp_path / "again", evidence())).read_bytes() == first


@pytest.mark.parametrize(
    ("state", "word", "said"),
    [
        ("pass", "✓ Pass", "stayed within the accepted share of 1.3 %"),
        ("finding", "✕ Finding", "gives training pictures back more often than is accepted"),
        ("inconclusive", "? Inconclusive", "does not tell whether copies of training pictures"),
    ],
)
def test_the_verdict_stands_first_in_words_and_colour(state, word, said, tmp_path):
    settle = ("Make 188 pictures more.",) if state == "inconclusive" else ()
    made_of = changed(evidence(), verdict={"state": state, "settle": settle})
    page = made(tmp_path / "audit", made_of)
    assert page.text.index(word) < page.text.index(said) < page.text.index("What was asked")
    assert page.text.index("Not tested") < page.text.index("Exhibits")
    assert f"verdict {state}" in [d.get("class") for d in page.all("div")]
    assert ("What would settle it" in page.text) == bool(settle)


def test_zero_among_n_is_said_with_its_bound(tmp_path):
    none = replace(
        changed(evidence(0), verdict={"state": "pass", "share": Share.count(0, 500)}),
        recommendation=None, tried=(), agreement=None,
    )  # fmt: skip
    page = made(tmp_path / "audit", none)
    # 1 - 0.025^(1/500) = 0.735 %, and 3/500 = 0.6 %.
    assert "0 of 500 pictures (0 %). None among 500 does not mean never" in page.text
    assert "up to 0.74 % (two-sided 95 % bound; the rule of thumb, 3/n, says at most 0.60 %)" in (
        page.text.replace("\xa0", " ")
    )
    assert "No picture passed the threshold" in page.text
    assert "Before and after" not in page.text
    unsampled = made(tmp_path / "b", changed(none, verdict={"share": None}))
    assert "of the pictures made for captions" not in unsampled.text


def test_a_recommendation_that_new_seeds_do_not_bear_out(tmp_path):
    whole = changed(evidence(), recommendation={"holds": False, "confirmed": Share.count(9, 97)})
    page = made(tmp_path / "audit", whole)
    assert "Not confirmed: 9 of 97 pictures from new seeds are copies, more than" in page.text
    alone = made(tmp_path / "b", replace(evidence(), recommendation=None))
    assert "No tried setting brought copies to the accepted share" in alone.text


def test_long_lists_are_capped_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(exhibits, "MAX_FINDINGS", 5)
    monkeypatch.setattr(exhibits, "MAX_LISTED", 2)
    many = replace(evidence(9), results=replace(
        evidence(9).results,
        prompts=tuple(Group(name=f"p{i}.", share=Share.count(1, 4)) for i in range(MAX_ROWS + 7)),
    ))  # fmt: skip
    page = made(tmp_path / "audit", many)
    for said in ("1 more finding", "2 findings without pictures", "2 more findings only in audit",
                 f"{MAX_ROWS} of {MAX_ROWS + 7} prompts are listed"):  # fmt: skip
        assert said in page.text
    assert f"p{MAX_ROWS - 1}." in page.text
    assert f"p{MAX_ROWS}." not in page.text
    # Two exhibits and their differences, and the training picture: five for each of five findings,
    # whose training picture is shown beside each exhibit.
    assert len(page.all("img")) == 5 * 2 * 3


def test_the_size_is_bounded_by_the_pictures_that_are_shown(tmp_path):
    size = write_evidence_report(write(tmp_path / "a", evidence(60))).stat().st_size
    # 40 findings with two exhibits are 40 * 6 pictures, at most 30 kB each in base64.
    assert size < 40 * 6 * 30_000 * 4 / 3


def test_a_difference_is_white_where_pictures_are_equal(tmp_path):
    wide = np.zeros((40, 80, 3), dtype=np.uint8)
    wide[:, 40:] = 255
    Image.fromarray(wide).save(tmp_path / "a.png")
    Image.fromarray(255 - wide).save(tmp_path / "b.png")
    same = pictures.difference(tmp_path, "a.png", "a.png", 80)
    other = pictures.difference(tmp_path, "a.png", "b.png", 80)
    for uri, grey in ((same, 255), (other, 0)):
        data = pictures.base64.b64decode(uri.partition(",")[2])
        pixels = np.asarray(Image.open(pictures.io.BytesIO(data)))
        # JPEG rounds a flat picture by a step at most.
        assert np.abs(pixels.astype(int) - grey).max() <= 2


@pytest.mark.parametrize("name", ["../secret.png", "/etc/hostname", "pictures/gone.png"])
def test_a_picture_outside_or_absent_is_refused_and_the_earlier_report_stays(name, bundle):
    before = write_evidence_report(bundle).read_bytes()
    one = finding(0)
    bad = replace(one, exhibits=(replace(one.exhibits[0], picture=name),))
    Image.new("RGB", (8, 8)).save(bundle.parent / "secret.png")
    (bundle / "audit.json").write_bytes(replace(evidence(), findings=(bad,)).to_bytes())
    with pytest.raises(BadRecords):
        write_evidence_report(bundle)
    assert (bundle / "report.html").read_bytes() == before


def test_the_hashes_are_those_of_the_files(bundle):
    page = Page(write_evidence_report(bundle).read_text(encoding="utf-8"))
    names = ["audit.json", "records/observed.jsonl", "pictures/generated/0051.png"]
    for name in names:
        data = (bundle / name).read_bytes()
        assert f"{name} {hashlib.sha256(data).hexdigest()}" in page.text


def test_headings_go_down_one_at_a_time_and_tables_have_heads(bundle):
    page = Page(write_evidence_report(bundle).read_text(encoding="utf-8"))
    levels = [int(name[1]) for name, _ in page.elements if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    assert all("scope" in th for th in page.all("th"))
    assert {"lang": "en"} in page.all("html")


def test_captions_and_seeds_are_shown_with_what_makes_a_picture_again(bundle):
    text = html.unescape(write_evidence_report(bundle).read_text(encoding="utf-8"))
    assert "seed 7000000000018" in text
    assert f"sidestep sample MODEL '{CAPTIONS[1]}' --rule constant" in text
    assert sha(201) in text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (1, "100 %"), (3e-6, "0.00030 %"), (0.0025, "0.25 %"), (0.0996, "10 %"),
     (0.043, "4.3 %"), (0.37, "37 %"), (0.9936, "99.4 %"), (0.99999, "99.9 %")],
)  # fmt: skip
def test_percentages(share, text):
    assert figures.percent(share).replace("\xa0", " ") == text


def test_levels_rise_whatever_their_spelling(bundle):
    page = Page(write_evidence_report(bundle).read_text(encoding="utf-8"))
    facts = page.text[page.text.index("near-duplicates from") :]
    places = [facts.index(f"in the set {n}") for n in ("once", "2 t", "3-4 t", "5-9 t", "10+ t")]
    assert places == sorted(places)


def test_heading_and_commands_say_what_is_on_the_model(bundle):
    page = write_evidence_report(bundle).read_text(encoding="utf-8")
    named = Evidence.read(bundle).model
    assert named.title == f"{named.name} with the LoRA harbour-style.safetensors"
    full, half = (msgspec.structs.replace(named, lora=f"mine x {w}") for w in ("1", "0.5"))
    assert full.title.endswith("LoRA mine") and half.title.endswith("LoRA mine x 0.5")
    assert named.title in re.sub(r"<[^>]+>", "", page[page.index("<h1>") : page.index("</h1>")])
    assert "MODEL stands for the model's folder" in page
    assert "is the LoRA's name without its path" in page


def test_what_the_page_has_people_write_into_the_bundle_does_not_break_it(bundle):
    page = write_evidence_report(bundle).read_text(encoding="utf-8")
    written = re.findall(r" -out (\S+?)<", page)
    assert written and set(written) <= set(SIGNATURES)
