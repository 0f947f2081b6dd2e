"""`sidestep cite`: entries of the registry's papers, each whole and well formed."""

import re

import pytest

from sidestep import registry
from sidestep.citations import bibtex, entries
from sidestep.cli.main import main
from sidestep.errors import SidestepError


def test_a_paper_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cite", "dynamic", "static", "sscd"]) == 0
    assert capsys.readouterr().out == f"{bibtex('jain2025')}\n\n{bibtex('pizzi2022')}\n"


def test_a_typo_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cite", "dynamc"]) == 2
    assert "there is no method named 'dynamc'; did you mean dynamic?" in capsys.readouterr().err


@pytest.mark.parametrize("entry", registry.entries(), ids=lambda e: e.name)
def test_every_registered_name_has_its_papers_entry(entry: registry.Entry) -> None:
    text = bibtex(entry.cite)
    # The source and the entry name the same paper.
    number = re.search(r"arXiv:(\S+?)(?:$|[,;])", entry.source)
    if number is not None:
        assert f"eprint = {{{number[1]}}}" in text
    if entry.cite != "sidestep":
        assert re.search(r"^  author = \{(\w+)", text, re.MULTILINE)[1] in entry.source  # type: ignore[index]


@pytest.mark.parametrize(("key", "text"), entries().items(), ids=list(entries()))
def test_entries_are_well_formed(key: str, text: str) -> None:
    assert text.startswith("@")
    assert text.count("{") == text.count("}")
    fields = dict(re.findall(r"^  (\w+) = \{(.*)\},?$", text, re.MULTILINE))
    assert {"title", "author"} <= set(fields)
    assert len(fields) == len(text.splitlines()) - 2
    # Each line but the last field ends in a comma, or BibTeX stops there.
    assert all(line.endswith(",") for line in text.splitlines()[:-2])
    if key != "sidestep":
        assert fields["year"] in key
        assert re.fullmatch(r"\d{4}\.\d{5}", fields["eprint"])


def test_an_unknown_key_is_a_sentence() -> None:
    with pytest.raises(SidestepError, match="has no entry 'x'; it has sidestep, jain2025"):
        bibtex("x")
