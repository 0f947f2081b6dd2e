"""Records and run folders with given scores, for tables and charts."""

import json
from dataclasses import replace

from sidestep.runs.records import Record, append

BASE = Record(
    rule="plain", method="constant", settings={"scale": 7.5}, before=None, kind="target",
    prompt="p", seed=3, draw=0, image="images/plain/0000.png", transition=0, transition_time=0.999,
    opened_by="start", nfe=100, seconds=0.5, nearest="target/00", nearest_image=None,
    similarity={"pixels-32": 0.75}, recipe="pixels-32", threshold=0.5, copy=True, agreement=1,
    spread=None,
)  # fmt: skip


def image(rule, prompt, draw, similarity, agreement, kind="target", **more):
    """A scored record."""
    method = "constant" if rule == "plain" else "static"
    return replace(
        BASE, rule=rule, method=method, prompt=prompt, draw=draw, kind=kind, agreement=agreement,
        similarity={"pixels-32": float(similarity)}, copy=bool(similarity > 0.5), **more,
    )  # fmt: skip


def folder(path, records, **header):
    """A run folder of those records."""
    path.mkdir(parents=True)
    append(path / "records.jsonl", records)
    rules = {r.rule: {"rule": r.rule, "method": r.method, "settings": r.settings} for r in records}
    about = {"created": "now", "command": "x", "versions": {"torch": "2"}, "seed": 0} | header
    (path / "run.json").write_text(json.dumps({**about, "rules": list(rules.values())}))
    return path
