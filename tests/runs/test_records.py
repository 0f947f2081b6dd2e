"""Records survive a round trip, and a damaged file is answered with its line."""

import gzip
from dataclasses import replace

import numpy as np
import pytest

from sidestep.errors import BadRecords
from sidestep.runs.records import Record, append, file_of, read, to_lines
from sidestep.runs.summary import row

RECORD = Record(
    rule="plain", method="constant", settings={"scale": 7.5}, before=None, kind="target",
    prompt="a <b>fox</b> à la carte", seed=3, draw=0, image="images/plain/0000.png", transition=0,
    transition_time=0.999, opened_by="start", nfe=100, seconds=0.5, nearest="target/00",
    nearest_image=None, similarity={"pixels-32": 0.75}, recipe="pixels-32", threshold=0.5,
    copy=True, agreement=1, spread=None,
)  # fmt: skip


def test_records_come_back_as_written(tmp_path):
    rows = [replace(RECORD, draw=i) for i in range(3)]
    append(tmp_path / "r.jsonl", rows[:2])
    append(tmp_path / "r.jsonl", rows[2:])
    assert read(tmp_path / "r.jsonl") == rows


def test_a_prompt_may_hold_any_separator(tmp_path):
    # JSON leaves these as they are; str.splitlines would break the line at each.
    rows = [replace(RECORD, prompt="a\u2028b\x85c\x0bd\ne\r\nf")]
    append(tmp_path / "r.jsonl", rows)
    assert read(tmp_path / "r.jsonl") == rows


def test_a_file_cut_in_half_names_the_line(tmp_path):
    path = tmp_path / "r.jsonl"
    append(path, [RECORD, RECORD])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(BadRecords, match=r"line 2 of 2.*cut off"):
        read(path)


def test_unknown_fields_are_refused(tmp_path):
    (tmp_path / "r.jsonl").write_text('{"rule": "plain"}\n')
    with pytest.raises(BadRecords, match="missing"):
        read(tmp_path / "r.jsonl")


def test_a_summary_row_is_what_a_loop_over_the_records_counts():
    r = np.random.default_rng(0)
    rows = [
        replace(
            RECORD,
            similarity={"pixels-32": float(s)},
            copy=bool(s > 0.5),
            agreement=int(a),
            opened_by=str(o),
        )
        for s, a, o in zip(
            r.uniform(0, 1, 40), r.integers(1, 9, 40),
            r.choice(["signal", "fallback", "never"], 40), strict=True,
        )
    ]  # fmt: skip
    made = row(rows)
    assert made.copies == len([x for x in rows if x.similarity["pixels-32"] > 0.5])
    good = [x for x in rows if x.agreement <= 5 and not x.copy]
    assert made.good_share == pytest.approx(len(good) / 40)
    assert made.agreement_r1 == pytest.approx(len([x for x in rows if x.agreement == 1]) / 40)
    assert made.opened_by_fallback == len([x for x in rows if x.opened_by == "fallback"])
    assert made.similarity_p95 == pytest.approx(
        np.percentile([x.similarity["pixels-32"] for x in rows], 95)
    )
    assert made.copy_low < made.copy_share < made.copy_high


def test_unscored_records_have_no_summary():
    with pytest.raises(ValueError, match="scored"):
        row([replace(RECORD, copy=None)])


def test_packed_records_are_read_too_and_a_cut_file_is_a_sentence(tmp_path):
    (tmp_path / "records.jsonl").write_text(to_lines([RECORD]), encoding="utf-8")
    assert file_of(tmp_path) == tmp_path / "records.jsonl"
    packed = tmp_path / "records.jsonl.gz"
    packed.write_bytes(gzip.compress(to_lines([RECORD, RECORD]).encode()))
    assert file_of(tmp_path) == packed
    assert read(packed) == [RECORD, RECORD]
    for broken in (packed.read_bytes()[:-9], b"not gzip", b""):
        packed.write_bytes(broken)
        with pytest.raises(BadRecords, match=r"records\.jsonl\.gz"):
            read(packed)


def test_agreement_is_that_of_all_images_or_unknown():
    known = [replace(RECORD, agreement=a, text={"c": 0.25 * a, "d": 1.0}) for a in (1, 6)]
    assert (row(known).agreement_r1, row(known).agreement_r5) == (0.5, 0.5)
    unknown = [known[0], replace(known[1], agreement=None, text={"c": 0.5})]
    made = row(unknown)
    assert made.agreement_r1 is made.agreement_r5 is made.good_share is None
    assert made.copies == sum(x.copy for x in unknown)
    # A recipe that some images lack has no mean over all.
    assert made.text == {"c": 0.375}
