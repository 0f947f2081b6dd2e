import json

import pytest
import torch
from mitigations.runs import MEMORIZED, ORDINARY, started

from sidestep.guidance.config import as_dict, from_dict
from sidestep.mitigations.clip_padding import NeutralPadding
from sidestep.mitigations.perturbation import RandomWords
from sidestep.mitigations.reanchoring import PromptReanchoring
from sidestep.mitigations.rewording import Rewording


def test_a_prompt_with_a_pair_is_said_otherwise_and_the_rest_reports_that_it_was_not():
    start = started()
    made = Rewording(((MEMORIZED, "red ship"),)).begin(start)
    assert made.prompts == ("red ship", ORDINARY)
    assert torch.equal(made.text.cond, start.model.embed(["red ship", ORDINARY]).cond)
    assert made.outcomes[0].reached.tolist() == [True, False]


def test_pairs_survive_a_file_also_inside_of_another_mitigation():
    for one in (Rewording((("a", "b"),)), PromptReanchoring(other=Rewording((("a", "b"),)))):
        assert from_dict(json.loads(json.dumps(as_dict(one)))) == one


def test_a_later_mitigation_sees_the_new_prompts():
    start = RandomWords(3).begin(started())
    assert all(len(p.split()) > 3 for p in start.prompts)
    made = NeutralPadding(end=1.0).begin(start)
    words = torch.arange(start.text.cond.shape[1]) < start.text.length[:, None]
    assert torch.equal(made.text.cond[words], start.text.cond[words])
    assert torch.equal(made.text.cond, start.model.embed(start.prompts, pad="!").cond)


@pytest.mark.parametrize("pairs", [(("a", "b", "c"),), ("ab",)])
def test_what_are_no_pairs_is_refused(pairs):
    with pytest.raises(ValueError, match="no pair"):
        Rewording(pairs)
