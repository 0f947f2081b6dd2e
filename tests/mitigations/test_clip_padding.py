from dataclasses import replace

import pytest
import torch
from mitigations.runs import CLOSE, MEMORIZED, started
from reference.captioned import Captions
from reference.text_methods import padded_anew, padding_zeroed

from sidestep.mitigations import Unfit
from sidestep.mitigations.clip_padding import NeutralPadding, PaddingZeroed

SHARES = [0.0, 0.3, 0.7, 1.0]


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("end", [0.0, 0.25, 1.0])
def test_padding_and_end_are_those_of_the_formula(share, end):
    start = started()
    made = NeutralPadding(share, end).begin(start).text
    other = start.model.embed(start.prompts, pad="!")
    for b, length in enumerate(start.text.length.tolist()):
        given = start.text.cond[b].tolist(), other.cond[b].tolist()
        expected = torch.tensor(padded_anew(*given, length, share, end), dtype=torch.float64)
        torch.testing.assert_close(made.cond[b], expected, **CLOSE)
    assert torch.equal(made.uncond, other.uncond if share else start.text.uncond)
    assert torch.equal(made.length, start.text.length)


@pytest.mark.parametrize("share", SHARES)
def test_the_share_of_the_padding_after_the_end_is_zero(share):
    start = started()
    made = PaddingZeroed(share).begin(start).text
    for b, length in enumerate(start.text.length.tolist()):
        expected = padding_zeroed(start.text.cond[b].tolist(), length, share)
        assert made.cond[b].tolist() == expected
    assert torch.equal(made.uncond, start.text.uncond)


def test_a_prompt_that_fills_all_places_has_no_padding_to_change():
    start = started(("fox ship lamp tree red blue big fox",))
    assert int(start.text.length) == start.text.cond.shape[1]
    assert torch.equal(PaddingZeroed(1.0).begin(start).text.cond, start.text.cond)
    made = NeutralPadding(end=1.0).begin(start).text
    assert torch.equal(made.cond, start.text.cond)


class PadsOtherwise(Captions):
    pads_with_end = False


@pytest.mark.parametrize("mitigation", [NeutralPadding(), PaddingZeroed()])
def test_a_text_model_that_pads_with_another_token_is_refused(mitigation):
    start = started(model=PadsOtherwise({MEMORIZED: 0}))
    with pytest.raises(Unfit, match="PadsOtherwise does not pad prompts with its end token"):
        mitigation.begin(start)
    with pytest.raises(Unfit, match="pass `prompts` and `model` to Start"):
        mitigation.begin(replace(start, model=None))


@pytest.mark.parametrize("kind", [NeutralPadding, PaddingZeroed])
def test_settings_out_of_range_are_refused(kind):
    with pytest.raises(ValueError, match="share"):
        kind(1.2)
    with pytest.raises(ValueError, match="end"):
        NeutralPadding(end=-0.1)
