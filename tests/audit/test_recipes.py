"""Recipes by the name and the settings that a person types."""

import pytest

from sidestep.audit.recipes import recipe
from sidestep.errors import SidestepError


def test_a_name_and_its_settings_make_a_recipe():
    assert recipe("pixels").name == "pixels-32" and recipe("pixels", side=16).name == "pixels-16"


@pytest.mark.parametrize("side", [float("nan"), float("inf"), 4.5, "abc", [4], True, None])
def test_what_is_no_whole_number_is_refused(side):
    with pytest.raises(SidestepError, match=r"side of pixels is .*; give a whole number"):
        recipe("pixels", side=side)


@pytest.mark.parametrize("path", [2024, 1.5, True])
def test_a_file_that_reads_as_a_number_is_asked_for_in_quotes(path):
    with pytest.raises(SidestepError, match=r"path of sscd-published is .*; give a text, .* JSON"):
        recipe("sscd-published", path=path)


def test_settings_that_it_lacks_or_has_not_are_named():
    with pytest.raises(SidestepError, match="sscd-published lacks path"):
        recipe("sscd-published")
    with pytest.raises(SidestepError, match="pixels has no size; its settings are side"):
        recipe("pixels", size=3)
