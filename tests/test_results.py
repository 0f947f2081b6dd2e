"""The results page says what the committed records say."""

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def test_the_table_is_that_of_the_records():
    made = runpy.run_path(str(DOCS / "generate_results.py"))
    page = (DOCS / "results/embedded.md").read_text(encoding="utf-8")
    shown = page.split(made["BEGIN"])[1].split(made["END"])[0]
    assert shown.strip() == made["table"]().strip(), "run: python docs/generate_results.py"


def test_every_registered_rule_and_mitigation_is_in_the_comparison():
    from sidestep import registry
    from sidestep.bench.compare import load

    _, records = load([DOCS / "results/embedded"])
    ran = {r.method for r in records}
    known = {e.name for e in registry.entries("rule", "mitigation", "sampler")}
    # Rewording says given prompts instead of others: a comparison has none to give.
    assert known - ran == {"rewording"}
