"""Prompts of an audit: from captions, by level of duplication, from files."""

from pathlib import Path

import pytest

from sidestep.audit.near_duplicates import levels
from sidestep.audit.prompts import Caption, choose, from_file, level_of, ordinary
from sidestep.errors import BadData


def test_the_most_duplicated_captions_come_first() -> None:
    every = [Caption(f"c{i}", (i,), 1 + 50 * (i % 7 == 0)) for i in range(70)]
    chosen = choose(every, 12)
    assert all(c.times == 51 for c in chosen[:10]) and all(c.times == 1 for c in chosen[10:])
    assert choose(list(reversed(every)), 12) == chosen  # by a hash, not by their order
    assert choose(every, 70) == every


@pytest.mark.parametrize("times", [1, 2, 3, 4, 5, 9, 10, 29, 30, 99, 100, 5000])
def test_levels_have_the_names_of_near_duplicates(times: int) -> None:
    import numpy as np

    assert list(levels(np.array([times]))) == [level_of(times)]


def test_prompts_of_files(tmp_path: Path) -> None:
    files = {
        "a.txt": "one\n\ntwo\none\n",
        "b.jsonl": '{"prompt": "one"}\n{"caption": "two"}\n',
        "c.csv": 'text\none\n"two"\n',
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
        assert from_file(tmp_path / name) == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"\n\n", "no prompt"),
        ("a.pkl", b"x", "no .txt"),
        ("a.txt", b"caf\xe9", "line 1"),
        ("a.jsonl", b'{"prompt": 3}\n', "line 1"),
        ("a.jsonl", b'{"wrong": "x"}\n', "'prompt'"),
        ("a.txt", b"x" * 70000, "longer than"),
    ],
)
def test_hostile_files_are_refused_with_a_place(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadData, match=says):
        from_file(tmp_path / name)


def test_ordinary_prompts_come_with_the_package() -> None:
    prompts = ordinary()
    assert len(prompts) == len(set(prompts)) >= 24
