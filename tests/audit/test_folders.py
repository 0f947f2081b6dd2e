"""A folder that a command filled is opened, or refused with a sentence that names the command."""

import json

import pytest

from sidestep.audit.folders import Folders
from sidestep.errors import BadRecords
from sidestep.runs import marks

KIND = Folders("facts.json", 2, "done.json", "is no shelf", "the shelf", "sidestep shelve")


def test_the_facts_of_its_version_are_read(tmp_path):
    (tmp_path / "facts.json").write_text(json.dumps({"version": 2, "books": 3}))
    assert KIND.read(tmp_path, lambda values: values["books"]) == 3


@pytest.mark.parametrize("version", [1, 3, "2", None])
def test_another_version_is_refused_before_it_is_read(tmp_path, version):
    (tmp_path / "facts.json").write_text(json.dumps({"version": version}))
    said = rf"is of version {version}, and this reads version 2; run `sidestep shelve` again"
    with pytest.raises(BadRecords, match=said):
        KIND.read(tmp_path, lambda values: values["books"])


@pytest.mark.parametrize("data", [
    None, b"", b"{", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"version": 2}',
])  # fmt: skip
def test_another_folder_is_refused(tmp_path, data):
    if data is not None:
        (tmp_path / "facts.json").write_bytes(data)
    with pytest.raises(BadRecords, match=r"is no shelf \(.*give the folder that `sidestep shelve`"):
        KIND.read(tmp_path, lambda values: values["books"])


def test_what_is_not_finished_or_was_changed_is_not_opened(tmp_path):
    with pytest.raises(BadRecords, match=r"the shelf in .* is not finished, or was changed"):
        KIND.check(tmp_path, "one")
    marks.vouch(tmp_path, "done.json", "one", [marks.put(tmp_path, "book", b"text")])
    KIND.check(tmp_path, "one")
    with pytest.raises(BadRecords, match="not finished"):
        KIND.check(tmp_path, "other")
    (tmp_path / "book").write_bytes(b"TEXT")
    with pytest.raises(BadRecords, match="was changed"):
        KIND.check(tmp_path, "one")
