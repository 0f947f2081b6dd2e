"""What the repository promises around its code: commands, names, data, pins, links."""

import ast
import json
import os
import re
import tomllib
from functools import cache
from importlib import import_module
from importlib.resources import files
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sidestep import registry
from sidestep.errors import MissingExtra

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
TEXT_FILES = {".py", ".md", ".toml", ".txt", ".cff", ".yaml", ".yml", ".html", ".css", ".js", ""}
NOT_OURS = {"out", "build", "dist", "weights", "__pycache__"}
# Hosts that a text of this project may link to: papers, sources, licences and conventions.
HOSTS = {
    "arxiv.org",
    "creativecommons.org",
    "doi.org",
    "github.com",
    "keepachangelog.com",
    "semver.org",
    "www.apache.org",
    "www.w3.org",
}


def text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


@cache
def own_texts() -> tuple[Path, ...]:
    """Every text file of the project, caches and build results left out."""
    found = []
    # Path.walk came with Python 3.12.
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [
            f for f in folders if f not in NOT_OURS and (f == ".ci" or not f.startswith("."))
        ]
        found += [Path(folder, n) for n in names if Path(n).suffix in TEXT_FILES]
    return tuple(found)


def requirements(*extras: str) -> list[Requirement]:
    """The dependencies and those of some extras, the project's references to itself resolved."""
    project = PROJECT["project"]
    lines = [*project["dependencies"]]
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    rows = [Requirement(line) for line in lines]
    inner = [e for r in rows if r.name == "sidestep" for e in sorted(r.extras)]
    own = [r for r in rows if r.name != "sidestep"]
    return own + (requirements(*inner) if inner else [])


def pins() -> dict[str, str]:
    rows = [line for line in text("constraints.txt").splitlines() if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in (r.split("==") for r in rows)}


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_every_make_command_of_a_document_is_a_target(document):
    targets = set(re.findall(r"^([a-z]+):", text("Makefile"), flags=re.MULTILINE))
    commands = set(re.findall(r"(?:`|^ {4})make ([a-z]+)", text(document), flags=re.MULTILINE))
    assert commands
    assert commands <= targets


def test_every_phony_target_has_a_rule_and_a_help_line():
    makefile = text("Makefile")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)
    assert phony is not None
    documented = set(re.findall(r"^([a-z]+):.*## \w", makefile, flags=re.MULTILINE))
    assert set(phony[1].split()) == documented


def test_ci_runs_what_the_readme_tells_a_newcomer_to_run():
    ci = text(".ci/run")
    assert "\nmake test\n" in ci
    assert "    make test\n" in text("README.md")
    assert (ROOT / ".ci/run").stat().st_mode & 0o111, ".ci/run must be executable"


def test_the_names_that_the_readme_imports_exist():
    blocks = re.findall(r"```python\n(.*?)```", text("README.md"), flags=re.DOTALL)
    assert blocks
    sidestep = import_module("sidestep")
    for node in (n for block in blocks for n in ast.walk(ast.parse(block))):
        if isinstance(node, ast.ImportFrom):
            module = import_module(str(node.module))
            for name in node.names:
                assert hasattr(module, name.name), f"{node.module} has no {name.name}"
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "sidestep":
            assert hasattr(sidestep, node.attr), f"sidestep has no {node.attr}"


@pytest.mark.parametrize("entry", registry.entries(), ids=lambda e: f"{e.kind}-{e.name}")
def test_every_registered_name_loads_or_names_the_missing_extra(entry):
    try:
        assert callable(entry.load())
    except MissingExtra as error:
        assert "install" in str(error).lower()


@pytest.mark.parametrize("entry", registry.entries(), ids=lambda e: f"{e.kind}-{e.name}")
def test_every_registered_name_is_explained(entry):
    page = "docs/mitigations.md" if entry.kind == "mitigation" else "docs/method.md"
    assert f"**{entry.name}" in text(page), f"{page} must have a paragraph on it"


def test_the_version_is_the_same_everywhere():
    version = PROJECT["project"]["version"]
    assert version in text("CHANGELOG.md")
    assert f"\nversion: {version}\n" in text("CITATION.cff")


def test_the_changelog_has_a_place_for_the_next_change():
    headings = re.findall(r"^## (.*)$", text("CHANGELOG.md"), flags=re.MULTILINE)
    assert headings[0] == "[Unreleased]"


def test_package_data_is_there():
    embedded = files("sidestep.models.embedded")
    assert files("sidestep").joinpath("py.typed").is_file()
    assert embedded.joinpath("vocabulary.toml").is_file()
    rows = json.loads(embedded.joinpath("drawings/drawings.json").read_text(encoding="utf-8"))
    sheets = [f.name for f in embedded.joinpath("drawings").iterdir() if f.name.endswith(".webp")]
    per_sheet = 2048
    assert len(sheets) == -(-len(rows) // per_sheet)


def test_every_emoji_set_is_attributed_with_its_licence():
    embedded = files("sidestep.models.embedded")
    rows = json.loads(embedded.joinpath("drawings/drawings.json").read_text(encoding="utf-8"))
    table = embedded.joinpath("drawings/ATTRIBUTION.md").read_text(encoding="utf-8")
    licences = {
        line.split("|")[1].strip(): line.split("|")[4].strip()
        for line in table.splitlines()
        if line.startswith("|")
    }
    for source in {row[1] for row in rows}:
        assert licences[source] in {"Apache-2.0", "CC-BY-4.0", "MIT"}


def test_constraints_are_exact_and_pin_every_dependency():
    pinned = pins()
    for requirement in requirements("diffusers", "agreement", "train", "dev"):
        assert canonicalize_name(requirement.name) in pinned, requirement.name
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)])


def test_constraints_name_only_what_any_index_has():
    # A local tag such as +cpu exists on no public index; torchvision is no part of the set-up.
    assert not [f"{n}=={v}" for n, v in pins().items() if "+" in v or n == "torchvision"]


def test_texts_link_only_to_known_hosts():
    found = set()
    for path in own_texts():
        for host in re.findall(r"https?://([\w.-]+)", path.read_text(encoding="utf-8")):
            if host not in HOSTS:
                found.add(f"{path.relative_to(ROOT)}: {host}")
    assert not found


def test_texts_name_no_absolute_path_of_some_machine():
    pattern = re.compile(r"(?<![\w.~/])/(?:home|root|Users|work)/\w")
    found = [str(p.relative_to(ROOT)) for p in own_texts() if pattern.search(p.read_text("utf-8"))]
    assert not found
