from typing import get_args

import pytest

from sidestep import registry
from sidestep.errors import SidestepError


def test_names_are_unique_and_every_entry_says_what_and_from_where():
    names = [e.name for e in registry.entries()]
    assert len(set(names)) == len(names)
    assert all(e.summary and e.source for e in registry.entries())
    assert {e.kind for e in registry.entries()} == set(get_args(registry.Kind))


@pytest.mark.parametrize("entry", registry.entries(), ids=lambda e: e.name)
def test_the_code_of_every_entry_is_there(entry):
    assert callable(entry.load())


def test_a_typo_is_answered_with_the_nearest_name():
    with pytest.raises(SidestepError, match=r"no rule named 'dinamic'; did you mean dynamic\?"):
        registry.get("dinamic", "rule")
    with pytest.raises(SidestepError, match="no rule named 'xyz'; known are constant, static, dyn"):
        registry.get("xyz", "rule")
    with pytest.raises(SidestepError, match="there is no method named"):
        registry.get("qqqq")


def test_a_name_of_another_kind_is_not_found():
    assert registry.get("embedded").kind == "model"
    with pytest.raises(SidestepError):
        registry.get("embedded", "rule")
