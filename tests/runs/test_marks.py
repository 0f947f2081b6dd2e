"""Files are whole or absent, and a mark holds for exactly what it vouches for."""

import os

import pytest

from sidestep.runs.marks import holds, put, vouch


def test_a_failed_write_leaves_the_file_before_it(tmp_path, monkeypatch):
    put(tmp_path, "a/b.bin", b"first")

    def full(file):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="no space"):
            put(tmp_path, "a/b.bin", b"second")
    assert (tmp_path / "a/b.bin").read_bytes() == b"first"
    assert [f.name for f in (tmp_path / "a").iterdir()] == ["b.bin"]


def test_a_mark_holds_for_its_id_and_its_files_as_they_were(tmp_path):
    files = [put(tmp_path, name, name.encode()) for name in ("x", "y")]
    assert not holds(tmp_path, "m.json", "1")
    vouch(tmp_path, "m.json", "1", files)
    assert holds(tmp_path, "m.json", "1")
    assert not holds(tmp_path, "m.json", "2")
    (tmp_path / "y").write_bytes(b"z")  # the same size
    assert not holds(tmp_path, "m.json", "1")
    put(tmp_path, "y", b"y")
    assert holds(tmp_path, "m.json", "1")
    (tmp_path / "x").unlink()
    assert not holds(tmp_path, "m.json", "1")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"done": "1"}', '{"done": "1", "files": [3]}', "[" * 100_000]
)
def test_a_damaged_mark_does_not_hold(tmp_path, text):
    (tmp_path / "m.json").write_text(text)
    assert not holds(tmp_path, "m.json", "1")
