"""A spelled method is the method: read back, it gives the same settings."""

import shlex

import click
import pytest

from sidestep import registry
from sidestep.audit.candidates import load
from sidestep.audit.spelling import number, options, python, spelled
from sidestep.cli._methods import read
from sidestep.runs.generate import method

EVERY = load().candidates


def again(how):
    """The method that the spelled options ask for."""
    context, words = click.Context(click.Command("x")), shlex.split(options(how))
    pairs = list(zip(words[::2], words[1::2], strict=True))
    given = [
        read(context, click.Option([option]), value, *registry.GUIDES) for option, value in pairs
    ]
    assert [option for option, _ in pairs] == ["--rule", *["--mitigation"] * (len(pairs) - 1)]
    return method(**given[0], mitigations=given[1:])


@pytest.mark.parametrize("candidate", EVERY, ids=lambda c: c.label)
def test_options_ask_for_the_same_method(candidate):
    how = candidate.method(7.5)
    other = again(how)
    assert (other.rule, other.mitigations) == (how.rule, how.mitigations)
    if how.rule is None:
        assert other.settings == how.settings


@pytest.mark.parametrize("candidate", EVERY, ids=lambda c: c.label)
def test_the_lines_of_python_run(candidate):
    """They compile, and their objects are the rule and the mitigations themselves."""
    how = candidate.method(7.5)
    lines = python(how)
    compile(lines, "recommended", "exec")
    if how.rule is not None:
        assert lines.endswith(f"# at guidance scale {how.scale:g}")
        made = []
        import sidestep

        class Around:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                return None

        class Stand:
            def __getattr__(self, name):
                return getattr(sidestep, name)

            def guide(self, pipe, rule):
                made.append(rule.with_scale(7.5))
                return Around()

            def mitigate(self, pipe, *held, seed):
                made.extend(held)
                return Around()

        body = lines.replace("import sidestep\n", "")
        exec(body, {"sidestep": Stand(), "pipe": lambda *_: None})
        assert tuple(made) == (how.rule, *how.mitigations)


@pytest.mark.parametrize(("value", "text"), [
    (2.0, "2"), (-0.5, "-0.5"), (0.12345678, "0.12345678"), (1 / 3, "0.3333333333333333"),
    (1e-7, "1e-07"),
])  # fmt: skip
def test_a_number_of_a_command_is_the_one_that_was_given(value, text):
    """A picture made again with a rounded weight of a LoRA is another picture."""
    assert number(value) == text and float(text) == value


@pytest.mark.parametrize("path", ["a.pt", "a,b=c.pt", "2024", "true", "NaN", "a b.pt"])
def test_a_text_is_read_back_as_that_text(path):
    context, param = click.Context(click.Command("x")), click.Option(["--recipe"])
    one = {"name": "sscd-published", "path": path}
    assert read(context, param, spelled(one), "similarity") == one
