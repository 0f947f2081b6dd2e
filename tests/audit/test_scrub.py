"""Text without paths, accounts, machines and the words it was told of."""

import pytest

from sidestep.audit.scrub import Scrub


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("see /data/anna/a.png, then", "see [path], then"),
        ("--images=/srv/x/y --out ~/z", "--images=[path] --out [path]"),
        ("'/mnt/My Pictures/a b.png' is cut", "'[path]' is cut"),
        (r"C:\Users\Anna\x and \\host\share\y", "[path] and [path]"),
        ("file:///tmp/a.png", "[path]"),
        ("anna@box-3:/data/a", "[account]:[path]"),
        ("https://github.com/a/b?token=abc#d", "https://github.com/a/b"),
        ("3/n and on/off, scans/a.png, -1 / 2", "3/n and on/off, scans/a.png, -1 / 2"),
        ("a word of a sentence", "a [withheld] of a sentence"),
        ("words stay", "words stay"),
    ],
)
def test_what_is_taken_out_of_text(text, left):
    assert Scrub(["word"]).text(text) == left


def test_names_of_machine_and_user_are_taken_out(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "ward-7.clinic.example")
    monkeypatch.setattr("getpass.getuser", lambda: "okafor")
    scrub = Scrub([])
    assert scrub.text("by okafor on ward-7, okafors") == "by [user] on [host], okafors"
