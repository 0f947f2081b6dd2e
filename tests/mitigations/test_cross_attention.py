import pytest
import torch
from mitigations.runs import CLOSE, LEVELS, logits, started
from reference.text_methods import masked

from sidestep.guidance.base import BOTH
from sidestep.mitigations import Place, Unfit
from sidestep.mitigations.cross_attention import AttentionMasking
from sidestep.models.closed_form import Memorizer


@pytest.mark.parametrize("branch", ["uncond", "cond"])
@pytest.mark.parametrize("mask", ["nothing", "padding", "end"])
@pytest.mark.parametrize("section", ["down", "mid", "up"])
def test_logits_are_those_of_the_formula(branch, mask, section):
    text, given = started().text, logits()
    made = AttentionMasking(1.3, mask).edit(given, text, Place("layer", section, branch))
    for b, length in enumerate(text.length.tolist()):
        expected = masked(given[b].tolist(), length, branch, 1.3, mask)
        torch.testing.assert_close(made[b], torch.tensor(expected, dtype=made.dtype), **CLOSE)


def test_what_comes_after_the_prompt_has_no_say():
    start = started()
    made = AttentionMasking(mask="end").begin(start)
    late = torch.arange(start.text.cond.shape[1]) >= start.text.length[:, None] - 1
    for denoiser, same in ((made.denoiser, True), (start.denoiser, False)):
        other = start.text.cond.masked_fill(late[..., None], 1.0)
        there = denoiser(start.x, LEVELS[0], BOTH).cond
        changed = denoiser.with_text(start.text._replace(cond=other))(start.x, LEVELS[0], BOTH)
        assert torch.equal(there, changed.cond) == same


def test_a_model_without_text_is_refused():
    points = torch.zeros(1, *started().x.shape[1:], dtype=torch.float64)
    start = started(denoiser=Memorizer(points, torch.ones(2, 1, dtype=torch.float64)))
    with pytest.raises(Unfit, match="Memorizer has no prompt embeddings"):
        AttentionMasking().begin(start)


@pytest.mark.parametrize("given", [{"boost": float("inf")}, {"mask": "all"}])
def test_settings_out_of_range_are_refused(given):
    with pytest.raises(ValueError, match=next(iter(given))):
        AttentionMasking(**given)
