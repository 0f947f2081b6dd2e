"""Text that others wrote: encodings, broken lines, a million of them, and formulas."""

import json
import tracemalloc
from itertools import islice

import pytest

from sidestep.bench.sources.formats import Lines, Table, Webster
from sidestep.errors import BadData
from sidestep.sources import text


def write(path, raw):
    path.write_bytes(raw)
    return path


def test_lines_are_those_of_the_file_with_or_without_a_mark_and_either_line_end(tmp_path):
    plain = "a café\n\n=two\u2028parts\nlast"
    for raw in (plain.encode(), plain.encode("utf-8-sig"), plain.replace("\n", "\r\n").encode()):
        found = list(text.lines(write(tmp_path / "p.txt", raw)))
        # Only \n ends a line: the separator U+2028 is a character of a caption.
        assert found == [(1, "a café"), (2, ""), (3, "=two\u2028parts"), (4, "last")]


@pytest.mark.parametrize(
    ("raw", "line", "position", "looks"),
    [
        ("one\ntwo\na café\n".encode("latin-1"), 3, 13, "Windows-1252"),
        ("a fox\n".encode("utf-16"), 1, 0, "UTF-16"),
        ("a fox\n".encode("utf-16-le"), 1, 1, "UTF-16"),
        ("a fox\n".encode("utf-32"), 1, 0, "UTF-32"),
    ],
)
def test_another_encoding_is_named_with_the_place_of_its_first_byte(
    tmp_path, raw, line, position, looks
):
    path = write(tmp_path / "p.txt", raw)
    expected = rf"p\.txt, line {line}: byte {position} of the file .* looks like {looks}\. Convert"
    for read in (lambda: list(text.lines(path)), lambda: text.whole(path)):
        with pytest.raises(BadData, match=expected):
            read()


def test_a_million_lines_are_read_in_the_memory_of_a_few(tmp_path):
    path = tmp_path / "many.txt"
    with path.open("w") as file:
        file.writelines(f"a prompt with the number {i}\n" for i in range(10**6))
    prompts = Lines(path="many.txt").prompts(tmp_path, tmp_path)
    # Traced for the first of them only: tracing is slow, and memory that grows does so from there.
    tracemalloc.start()
    first = sum(1 for _ in islice(prompts, 20_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Those lines have 600 kB; a line, its text and a buffer of the file have some kilobytes.
    assert peak < 100_000
    assert first + sum(1 for _ in prompts) == 10**6


def test_a_file_that_is_one_endless_line_is_refused_before_it_fills_the_memory(tmp_path):
    path = write(tmp_path / "p.txt", b"ok\n" + b"x" * (text.LONGEST + 1))
    with pytest.raises(BadData, match=r"line 2 is longer than 65536 bytes"):
        list(text.lines(path))


def test_a_missing_file_is_a_sentence(tmp_path):
    with pytest.raises(BadData, match=r"nothing\.txt cannot be read \(no such file"):
        list(text.lines(tmp_path / "nothing.txt"))


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b'{"caption": "a", "index": 1}\n{"caption": "b", "ind', r"line 2, column 18: not JSON"),
        (b"[1, 2]\n", r"line 1: a list came"),
        (
            b'{"prompt": "a", "index": 1}\n',
            r"line 1: there is no 'caption'; there are 'prompt', 'i",
        ),
        (b'{"caption": " ", "index": 1}\n', r"line 1: 'caption' is ' '"),
        (b'{"caption": 7, "index": 1}\n', r"line 1: 'caption' is 7"),
        (b'{"caption": "a", "index": "../.."}\n', r"line 1: 'index' is '\.\./\.\.'"),
        (b'{"caption": "a"}\n', r"line 1: 'index' is None"),
    ],
)
def test_a_line_that_does_not_fit_is_named(tmp_path, raw, says):
    write(tmp_path / "p.jsonl", raw)
    with pytest.raises(BadData, match=says):
        list(Webster(path="p.jsonl").prompts(tmp_path, tmp_path))


FORMULAS = [
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2",
    "@SUM(A1)",
    "\ttab",
    'say "no"; then, go',
    "two\nlines",
]


def test_cells_are_text_whatever_they_begin_with(tmp_path):
    quoted = ["prompt,seed", *(f'"{f.replace(chr(34), chr(34) * 2)}",1' for f in FORMULAS)]
    write(tmp_path / "p.csv", "\n".join(quoted).encode())
    found = Table(path="p.csv", column="prompt").prompts(tmp_path, tmp_path)
    assert [p.text for p in found] == FORMULAS


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ("prompt;seed\na;1\n", r"line 2: there is no 'prompt'; there are 'prompt;seed'"),
        ("prompt,seed\na\n", r"line 2: the number of cells is not that of the headings"),
        ("prompt,seed\na,1,2\n", r"line 2: the number of cells"),
        ('prompt,seed\n"a,1\n', r"not CSV .* a quote may not be closed"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, raw, says):
    write(tmp_path / "p.csv", raw.encode())
    with pytest.raises(BadData, match=says):
        list(Table(path="p.csv", column="prompt").prompts(tmp_path, tmp_path))


def test_json_that_is_cut_off_or_no_object_is_refused(tmp_path):
    whole = json.dumps({"a.png": ["a"]}, indent=1)
    with pytest.raises(BadData, match=r"line \d, column \d+: not JSON .* cut off"):
        text.json_object(write(tmp_path / "c.json", whole[:-4].encode()))
    with pytest.raises(BadData, match=r"holds a list; it must be one object"):
        text.json_object(write(tmp_path / "c.json", b"[]"))
