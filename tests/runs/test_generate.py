"""Ways to guide, by name."""

import pytest

from sidestep.errors import SidestepError
from sidestep.guidance import Constant, Scheduled, Static
from sidestep.mitigations.perturbation import EmbeddingNoise, RandomWords
from sidestep.runs.generate import LONGEST, method


@pytest.mark.parametrize("name", ["probe", "static", "dynamic"])
def test_a_setting_that_the_rule_lacks_is_refused(name):
    with pytest.raises(SidestepError, match=f"{name} has no setting nonsense"):
        method(name, nonsense=1)


def test_a_typo_of_the_probe_is_answered():
    with pytest.raises(SidestepError, match="did you mean probe"):
        method("prob")


def test_a_method_states_every_setting_of_its_rule():
    how = method("static", time=0.7, before=-2.0)
    assert how.settings == {"time": 0.7, "before": -2.0, "after": 7.5}
    assert how.label == "static time=0.7 before=-2.0 after=7.5"
    assert how.slug == "static-time-0-7-before-2-0-after-7-5"


def test_a_mitigation_samples_with_plain_guidance_or_with_a_rule_of_its_own():
    plain = method("random-words", count=2)
    assert plain.rule == Constant(7.5) and plain.mitigations == (RandomWords(2),)
    assert plain.settings == {"count": 2, "rule": {"name": "constant", "scale": 7.5}}
    assert plain.label == "random-words count=2 + constant scale=7.5"
    static = {"name": "static", "time": 0.8}
    mixed = method("random-words", rule=static, mitigations=[{"name": "embedding-noise"}])
    assert mixed.rule == Static(0.8, after=7.5)
    assert mixed.mitigations == (RandomWords(4), EmbeddingNoise(0.1))
    assert mixed.settings["mitigations"] == [{"name": "embedding-noise", "strength": 0.1}]


def test_a_schedule_of_weights_is_a_rule_with_a_strength():
    for scale in (3.0, 7.5):
        schedule = {"name": "scheduled", "shape": "linear", "scale": scale}
        how = method("constant", scale=schedule)
        assert how.rule == Constant(Scheduled("linear", scale))
        assert how.settings == {"scale": schedule}
        assert how.label == f"constant scale=(scheduled shape=linear scale={scale})"


def test_a_rule_takes_mitigations_and_no_second_rule():
    how = method("static", mitigations=[{"name": "random-numbers", "count": 1}], time=0.7)
    assert how.name == "static" and how.settings["mitigations"][0]["count"] == 1
    assert how.label == "static time=0.7 before=0.0 after=7.5 + random-numbers count=1"
    with pytest.raises(SidestepError, match="static is a rule itself and takes no other"):
        method("static", rule={"name": "constant"})
    with pytest.raises(SidestepError, match="probe is a sampler of its own"):
        method("probe", mitigations=[{"name": "random-numbers"}])


def test_a_label_of_any_length_is_a_file_name_of_its_own():
    chains = [[{"name": "guard", "factor": 0.1}] * 9, [{"name": "guard", "factor": 0.2}] * 9]
    one, other = (method("static", mitigations=chain).slug for chain in chains)
    assert one != other
    assert len(one) == len(other) == LONGEST
