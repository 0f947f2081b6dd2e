import json
import subprocess
import sys

import pytest

import sidestep
from sidestep import registry

# What must not be loaded before a name is used: the frameworks and everything that is slow.
HEAVY = ("torch", "numpy", "scipy", "diffusers", "transformers", "matplotlib", "onnxruntime", "PIL")


def loaded_after(code):
    """The heavy modules in a fresh interpreter after it ran the code."""
    ask = f"{code}\nimport sys, json; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_import_loads_no_framework():
    assert loaded_after("import sidestep; sidestep.rules(); dir(sidestep)") == []


def test_a_rule_loads_torch_and_no_other_framework():
    heavy = loaded_after("import sidestep; sidestep.Dynamic(); sidestep.sample; sidestep.Trace")
    assert "torch" in heavy
    assert set(heavy) <= {"torch", "numpy"}  # torch imports numpy itself


def test_rules_lists_the_registry():
    assert sidestep.rules() == [e.name for e in registry.entries("rule")]
    assert {"constant", "static", "dynamic"} <= set(sidestep.rules())


@pytest.mark.parametrize("name", ["Constant", "Static", "Dynamic", "Scheduled", "Trace", "sample"])
def test_public_names_are_what_their_rooms_hold(name):
    from sidestep import guidance, sampling

    room = sampling if name in ("Trace", "sample") else guidance
    assert getattr(sidestep, name) is getattr(room, name)


def test_names_and_their_typos():
    assert set(sidestep.__all__) <= set(dir(sidestep))
    for name in set(sidestep.__all__) - {"__version__"}:  # a folder that is not installed has none
        assert callable(getattr(sidestep, name))
    with pytest.raises(AttributeError, match="has no attribute 'Dynamik'"):
        _ = sidestep.Dynamik


def test_the_version_is_that_of_the_installed_package(monkeypatch):
    import importlib.metadata

    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"9.9 of {name}")
    assert sidestep._version() == "9.9 of sidestep"

    def none(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", none)
    with pytest.raises(AttributeError, match="is not installed, so it has no version"):
        sidestep._version()
