"""Ways to guide, by name."""

import pytest

from sidestep.bench.generate import method
from sidestep.errors import SidestepError


@pytest.mark.parametrize("name", ["probe", "static", "dynamic"])
def test_a_setting_that_the_rule_lacks_is_refused(name):
    with pytest.raises(SidestepError, match=f"the rule {name} has no setting nonsense"):
        method(name, nonsense=1)


def test_a_typo_of_the_probe_is_answered():
    with pytest.raises(SidestepError, match="did you mean probe"):
        method("prob")


def test_a_method_states_every_setting_of_its_rule():
    how = method("static", time=0.7, before=-2.0)
    assert how.settings == {"time": 0.7, "before": -2.0, "after": 7.5}
    assert how.label == "static time=0.7 before=-2.0 after=7.5"
    assert how.slug == "static-time-0-7-before-2-0-after-7-5"
