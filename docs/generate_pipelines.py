"""Write the table of docs/pipelines.md: `python docs/generate_pipelines.py`.

It takes some minutes: every family is run. The errors come from the functions that
tests/contract/test_pipelines.py asserts on.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = Path(__file__).with_name("pipelines.md")
BEGIN, END = "<!-- table: written by docs/generate_pipelines.py -->", "<!-- end of the table -->"
sys.path.insert(0, str(ROOT / "tests"))


def table() -> str:
    """The table as Markdown, with the versions it was measured with."""
    import diffusers
    import torch
    from adapters.families import FAMILIES, SCHEDULERS
    from contract.pipeline_checks import measure

    torch_version = torch.__version__.split("+")[0]
    lines = [
        f"Measured with diffusers {diffusers.__version__} and torch {torch_version} on the CPU.",
        "",
        "| family | class | transition at once | never on | static, own times | before=1 | dynamic"
        " | transitions | batch / singles | NFE / plain |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for family in (*FAMILIES, *SCHEDULERS):
        found = measure(family, deep=family in FAMILIES)
        values = [found.never, found.static, found.conditional, found.dynamic]
        cells = [
            family.name,
            f"`{family.pipeline}`",
            "bitwise" if found.immediate and found.restored else "NO",
            *(shown(v) for v in values),
            " ".join(map(str, found.transitions)),
            shown(found.singles),
            f"{found.cost:.2f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def shown(value: float | None) -> str:
    """An error as a power of ten that it stays below, a dash where there is none."""
    if value is None:
        return "-"
    return "0" if value == 0 else f"{value:.0e}"


def render(page: str, new: str) -> str:
    """The page with its table replaced."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{new}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8"), table()), encoding="utf-8")
