"""The header of a run, run.json: what it holds, and in what two headers differ."""

import json
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# What may differ between a run and its continuation, and between the machines of one run: these
# change no picture beyond rounding.
UNBOUND = ("created", "command", "batch", "python")


def settings_of_run(**more: Any) -> dict[str, Any]:
    """The header of a run: when, with what versions, and what the caller adds."""
    versions = {"python": platform.python_version(), "machine": platform.machine()}
    for package in ("sidestep", "torch", "diffusers", "transformers", "numpy", "onnxruntime"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["sidestep", *sys.argv[1:]]),
        "versions": versions,
        **more,
    }


def bound(header: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a run header that a continuation must share, as it reads from the disk."""
    kept = {name: value for name, value in header.items() if name not in UNBOUND}
    versions = {k: v for k, v in dict(kept.get("versions", {})).items() if k not in UNBOUND}
    return json.loads(json.dumps({**kept, "versions": versions}))  # type: ignore[no-any-return]


def differences(out: Path, about: Mapping[str, Any]) -> list[str]:
    """In what the run of a folder differs from a header, as phrases; none if the folder is free."""
    try:
        before = json.loads((out / "run.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ["records without a run.json"] if (out / "records.jsonl").exists() else []
    except (OSError, ValueError):
        return ["its run.json cannot be read"]
    if not isinstance(before, dict):
        return ["its run.json is no header"]
    there, here = bound(before), bound(about)
    return [
        _difference(name, there.get(name), here.get(name))
        for name in dict.fromkeys([*here, *there])
        if there.get(name) != here.get(name)
    ]


def _difference(name: str, there: Any, here: Any) -> str:
    if isinstance(there, dict) and isinstance(here, dict):
        inner = next(k for k in [*here, *there] if there.get(k) != here.get(k))
        return _difference(f"{name}: {inner}", there.get(inner), here.get(inner))
    shown = [json.dumps(value, ensure_ascii=False) for value in (there, here)]
    if max(map(len, shown)) > 60:
        return f"other {name}"
    return f"{name} {shown[0]} there, {shown[1]} here"
