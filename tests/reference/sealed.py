"""The files of a small bundle, not yet sealed, and a list of them that anybody may write."""

import hashlib

FILES = {
    "audit.json": b'{"copies":1,"images":2}',
    "records.jsonl": b'{"a": 1}\n{"a": 2}\n',
    "report.html": b"<html></html>",
    "pictures/a/0000.png": bytes(range(256)),
    "pictures/a b/\u00e9\U0001f600.png": b"",
}


def make(folder):
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "work").mkdir()
    (folder / "work/lock").write_bytes(b"")
    return folder


def write_list(folder, names=None):
    """Hashes of anybody's, right for the files as they are."""
    rows = {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in names or FILES}
    lines = [f"{rows[n]}  {n}\n" for n in sorted(rows, key=str.encode)]
    (folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")
