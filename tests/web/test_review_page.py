"""Reviews in the report, as a person makes them in a browser."""

import hashlib
import json
from datetime import UTC, datetime, timedelta

import pytest
from web.browser import Browser
from web.bundles import evidence, write

from sidestep.audit import canonical, reviews
from sidestep.audit.evidence import FILE
from sidestep.audit.reviews import Review, Reviews
from sidestep.web.evidence import write_evidence_report

pytestmark = pytest.mark.slow  # starts a browser
pytest.importorskip("rfc8785")
STATE = "document.getElementById('reviewing-state').textContent"
CHECKED = "[...document.querySelectorAll('input:checked')].map(i => [i.name, i.value])"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = write(tmp_path_factory.mktemp("bundle") / "audit", evidence(3))
    write_evidence_report(folder)
    return folder


@pytest.fixture
def page(bundle, tmp_path):
    with Browser(tmp_path) as browser:
        browser.open(bundle / "report.html")
        yield browser


def focus(page, selector, number=0):
    page.run(f"document.querySelectorAll({selector!r})[{number}].focus()")


def choose(page, exhibit, choice, note=""):
    """Tick a choice and type a note."""
    box = f"fieldset[data-exhibit='{exhibit}']"
    page.run(f"document.querySelector(\"{box} input[value='{choice}']\").click()")
    page.run(
        f'{{ const n = document.querySelector("{box} input[type=text]"); n.value = {note!r};'
        "n.dispatchEvent(new Event('input', {bubbles: true})) }"
    )


def save(page):
    page.run("document.getElementById('save-reviews').click()")


def audit(bundle):
    return hashlib.sha256((bundle / FILE).read_bytes()).hexdigest()


def test_a_person_reviews_with_the_keyboard_and_saves_a_file(page, bundle):
    assert page.run(STATE) == "0 of 6 exhibits chosen. "
    focus(page, "#reviewer")
    page.type("  Zoë\u00a0 Müller ")
    focus(page, "fieldset input")
    page.key("ArrowRight", 39)  # from the first choice to the second
    focus(page, "fieldset input[type=text]")
    page.type("another boat,   < 3 masts")
    assert page.run(STATE) == "1 of 6 exhibits chosen, not saved. "
    choose(page, "3.2", "copy")
    focus(page, "#save-reviews")
    page.key("Enter", 13, "\r")
    file = page.downloaded()
    data = file.read_bytes()
    made = canonical.from_bytes(data)  # byte for byte what our own writer gives
    when = datetime.strptime(made.pop("date"), reviews.DATE).replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - when) < timedelta(minutes=5)  # a slow machine, no other clock
    assert made == {
        "form": "sidestep-reviews", "version": 1, "audit": audit(bundle), "reviewer": "Zoë Müller",
        "reviews": [
            {"exhibit": "1.1", "choice": "no copy", "note": "another boat, < 3 masts"},
            {"exhibit": "3.2", "choice": "copy", "note": ""},
        ],
    }  # fmt: skip
    assert file.name == f"reviews-{audit(bundle)[:12]}.json"
    assert page.run(STATE).startswith("2 of 6 exhibits chosen. Handed to the browser")
    # Under its policy the script ran and nothing else was asked for.
    assert page.said == []
    assert {r.partition(":")[0] for r in page.requests} <= {"file", "data"}
    assert sum(r.startswith("file:") for r in page.requests) == 1
    assert page.run("localStorage.length + sessionStorage.length + document.cookie.length") == 0


def test_no_other_script_runs(page):
    page.run(
        "{ const s = document.createElement('script'); s.textContent = 'window.bad = 1';"
        "document.body.append(s); }"
    )
    assert page.run("window.bad === undefined")
    page.run("document.querySelector('h1').setAttribute('onclick', 'window.bad = 1')")
    page.run("document.querySelector('h1').click()")
    assert page.run("window.bad === undefined")
    assert any("Content Security Policy" in one for one in page.said)


def test_what_is_missing_is_said_and_nothing_saved(page):
    save(page)
    assert page.run(STATE) == "Type your name first."
    assert page.run("document.activeElement.id") == "reviewer"
    page.type("Ann")
    save(page)
    assert page.run(STATE) == "Nothing is chosen yet."
    choose(page, "1.2", "copy", "=1+1")  # folded away until it is asked for
    save(page)
    assert page.run(STATE).startswith("This text cannot be saved: no tags, and no =")
    assert page.run("document.activeElement.value") == "=1+1"
    choose(page, "1.2", "copy")
    page.run("document.querySelector('fieldset input[type=text]').value = 'a thought'")
    save(page)
    assert page.run(STATE) == "Exhibit 1.1 has a note and no choice."
    assert not page.downloads.exists()


def test_leaving_with_unsaved_choices_is_asked_about(page):
    leave = "window.dispatchEvent(new Event('beforeunload', {cancelable: true}))"
    assert page.run(leave)
    choose(page, "1.1", "unsure")
    assert not page.run(leave)
    page.run("document.getElementById('reviewer').value = 'Ann'")
    save(page)
    assert page.run(leave)


def test_a_saved_file_goes_on_and_another_audits_does_not(page, bundle, tmp_path):
    one = {
        "form": "sidestep-reviews", "version": 1, "audit": audit(bundle), "reviewer": "Zoë",
        "date": "2026-11-03T09:12:44Z", "reviews": [
            {"exhibit": "2.1", "choice": "unsure", "note": "dark"},
            {"exhibit": "3.1", "choice": "copy", "note": ""},
        ],
    }  # fmt: skip
    for change, said in (
        ({"audit": "0" * 64}, "That file is about another audit."),
        ({"reviews": [{"exhibit": "9.9", "choice": "copy", "note": ""}]}, "no exhibit 9.9"),
        ({"reviews": [{"exhibit": "1.1", "choice": "maybe", "note": ""}]}, "no exhibit 1.1"),
        ({"reviews": 3}, "That is no file of reviews."),
    ):
        (tmp_path / "other.json").write_text(json.dumps(one | change))
        page.give("#saved-reviews", tmp_path / "other.json")
        page.wait(f"{STATE}.includes({said!r})")
        assert page.run(CHECKED) == []
    (tmp_path / "mine.json").write_text(json.dumps(one))
    page.give("#saved-reviews", tmp_path / "mine.json")
    page.wait(f"{STATE}.includes('Opened')")
    assert page.run(CHECKED) == [["choice-2.1", "unsure"], ["choice-3.1", "copy"]]
    assert page.run("document.getElementById('reviewer').value") == "Zoë"
    save(page)
    again = json.loads(page.downloaded().read_text(encoding="utf-8"))
    assert again["reviews"] == one["reviews"] and again["reviewer"] == "Zoë"


def test_the_page_allows_what_the_command_allows(page):
    texts = [
        "fine", "", "a < b", "x <3", "1 <> 2", "-x", "=x", "+1", "@me", "\uff1dx", "\uff20x",
        "a-b=c", "<b>", "</b", "a <!-- b", "<?x", "<é", "a<b", "“quoted” & 'so'", "日本語",
    ]  # fmt: skip
    allowed = []
    for text in texts:
        page.run(f"document.getElementById('reviewer').value = {json.dumps(text)}")
        allowed.append(page.run("document.getElementById('reviewer').checkValidity()"))
    assert allowed == [reviews.odd(text, reviews.NAME) is None for text in texts]
    assert 5 < sum(allowed) < 15


def test_on_paper_only_what_was_chosen_is_printed(page):
    choose(page, "2.1", "copy")
    page.call("Emulation.setEmulatedMedia", media="print")
    shown = "[...document.querySelectorAll('fieldset, .panel')].filter(b => " \
        "getComputedStyle(b).display !== 'none').map(b => b.dataset.exhibit)"  # fmt: skip
    assert page.run(shown) == ["2.1"]
    page.call("Emulation.setEmulatedMedia", media="screen")
    assert page.run(f"{shown}.length") == 7


def test_reviews_of_the_bundle_are_shown_beside_their_exhibits(bundle, tmp_path):
    rows = [
        Review("1.1", "Zoë", "no copy", "another <b", "2026-11-03T09:12:44Z", 2),
        Review("1.1", "Ann", "copy", "", "2026-11-04T09:12:44Z"),
        Review("1.2", "Ann", "copy", "", "2026-11-04T09:12:44Z"),
        Review("2.1", "Ann", "unsure", "", "2026-11-04T09:12:44Z"),
        Review("3.1", "Ann", "no copy", "", "2026-11-05T09:12:44Z"),
    ]
    out = tmp_path / "report.html"
    write_evidence_report(bundle, out, Reviews.of(audit(bundle), rows))
    with Browser(tmp_path) as page:
        page.open(out)
        first = page.run("document.querySelector('.exhibit').innerText")
        assert "copy, Ann, 2026-11-04 09:12 UTC" in first
        assert "no copy, Zoë, 2026-11-03 09:12 UTC (revised 2 times): another <b" in first
        said = page.run("document.querySelector('.reviewed').innerText")
        assert said.startswith(
            "2 people reviewed 4 of 6 exhibits. Called a copy: 1. Called no copy: 1. Unsure: 1. "
            "Reviewers disagree: 1."
        )
        whole = page.run("document.getElementById('reviews').innerText")
    assert "Of 1 exhibit with more than one reviewer, all chose the same in 0." in whole
    assert "exhibit 1.1: reviewers disagree" in whole
    assert "exhibit 3.1: no copy, against calibration" in whole
    assert "exhibit 1.2:" not in whole
