"""docs/cli.md is what docs/generate_cli.py writes from the commands."""

import runpy
from pathlib import Path

from sidestep.cli.main import COMMANDS

DOCS = Path(__file__).parents[2] / "docs"


def test_page_is_up_to_date() -> None:
    render = runpy.run_path(str(DOCS / "generate_cli.py"))["render"]
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    assert render() == page, "run: python docs/generate_cli.py"


def test_page_has_every_command() -> None:
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    assert all(f"\n## {name}\n" in page for name in COMMANDS)
