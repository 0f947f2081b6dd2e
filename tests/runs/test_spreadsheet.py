"""CSV files hold what they were given, and nothing that a spreadsheet evaluates."""

import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from sidestep.runs.spreadsheet import safe, to_csv

FORMULAS = ["=1+1", "+1", "-1", "@A1", "\t=1", "\r=1", "\n=1", "\uff1d1", "=cmd|' /C calc'!A0"]


def test_formulas_are_text_and_numbers_stay_numbers():
    rows = [[f, -2.5, 3, None, True] for f in FORMULAS]
    text = to_csv(["prompt", "-x", "n", "none", "yes"], rows)
    first, *read = csv.reader(io.StringIO(text, newline=""))
    assert first == ["prompt", "'-x", "n", "none", "yes"]
    assert read == [[f"'{f}", "-2.5", "3", "", "True"] for f in FORMULAS]


@given(st.text())
def test_no_text_begins_like_a_formula_and_other_text_is_untouched(text):
    shown = safe(text)
    assert shown[:1] not in {"=", "+", "-", "@", "\t", "\r", "\n"}
    assert shown in (text, f"'{text}")
    assert (shown == text) == (not text or text[0] not in "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
