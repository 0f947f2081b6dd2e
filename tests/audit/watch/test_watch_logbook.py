"""The file of a watch survives kills, and one curve never mixes two settings."""

import json

import pytest
from adapters.tiny_sd import build_with_text
from reference.watched import training_pictures, watch

from sidestep.errors import BadRecords


def lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_training_goes_on_in_its_file(tmp_path):
    file, pipe = tmp_path / "deep" / "watch.jsonl", build_with_text()
    first = watch(file=file)
    reports = [first(step, pipe) for step in (0, 1)]
    again = watch(file=file)
    assert again.reports == {r.step: r for r in reports}
    assert again.calibration == first.calibration is not None
    assert again(1, pipe) is None
    assert again(2, pipe).step == 2
    kinds = ["settings", "model", "calibration", *["report"] * 3]
    assert [next(iter(row)) for row in lines(file)] == kinds
    assert lines(file)[1]["model"]["sampler"].startswith("DPM-Solver++ 2M, epsilon, ")
    assert lines(file)[2]["nfe"] > 0


@pytest.mark.parametrize("cut", [1, 40])
def test_half_a_line_is_dropped_and_made_again(tmp_path, cut):
    file, pipe = tmp_path / "watch.jsonl", build_with_text()
    first = watch(file=file)
    first(0, pipe)
    whole = file.read_bytes()
    expected = first(1, pipe)
    file.write_bytes(file.read_bytes()[:-cut])
    kept = file.read_bytes()
    watch(file=file)
    assert file.read_bytes() == kept != whole  # another process may be the one that writes
    made = watch(file=file)(1, pipe)
    assert file.read_bytes().startswith(whole)
    assert made.rate == expected.rate
    assert made.similarity_mean == expected.similarity_mean
    assert [row["report"]["step"] for row in lines(file)[3:]] == [0, 1]


def test_a_file_cut_in_its_first_line_begins_anew(tmp_path):
    file = tmp_path / "watch.jsonl"
    file.write_bytes(b'{"settings": {"ver')
    watch(file=file)(0, build_with_text())
    kinds = ["settings", "model", "calibration", "report"]
    assert [next(iter(row)) for row in lines(file)] == kinds


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"seed": 1}, "seed"),
        ({"draws": 2}, "draws"),
        ({"captions": ["a fox"]}, "prompts, prompts_sha256"),
        ({"training": training_pictures(3)}, "prompts, prompts_sha256, training"),
        ({"rate": 0.3}, "rate"),
    ],
)
def test_a_file_of_other_settings_is_refused(tmp_path, other, named):
    file = tmp_path / "watch.jsonl"
    watch(file=file)(0, build_with_text())
    with pytest.raises(BadRecords, match=rf"other settings \({named}\)"):
        watch(file=file, **other)
    watch(file=file, every=7, batch=3)  # these change no picture


@pytest.mark.parametrize("text", ["[1]\n", '{"report": {}}\n', "no JSON\n"])
def test_another_file_is_refused_and_left_alone(tmp_path, text):
    file = tmp_path / "watch.jsonl"
    file.write_text(text + "more")
    with pytest.raises(BadRecords, match="is no file of a watch"):
        watch(file=file)
    assert file.read_text() == text + "more"
