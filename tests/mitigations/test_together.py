"""Several mitigations at once: they compose, are counted, and leave each sample alone."""

import pytest
import torch
from mitigations.runs import MEMORIZED, ORDINARY, SCHEDULE, started

from sidestep.guidance import Constant, Static
from sidestep.mitigations.cads import CADS
from sidestep.mitigations.clip_padding import NeutralPadding
from sidestep.mitigations.cross_attention import AttentionMasking
from sidestep.mitigations.guard import Guard, SpikeAttenuation
from sidestep.mitigations.perturbation import RandomWords
from sidestep.mitigations.prompt_optimization import PromptOptimization
from sidestep.mitigations.reanchoring import PromptReanchoring
from sidestep.sampling import DDIM
from sidestep.sampling.mitigated import sample_mitigated

CHAINS = [
    [RandomWords(2), NeutralPadding(share=0.5, end=0.5), AttentionMasking(), SpikeAttenuation()],
    [Guard(), CADS(low=0.3), PromptOptimization(target=0.3, steps=3)],
    [AttentionMasking(), PromptReanchoring(trigger=0.2), Guard()],
    [Guard(), PromptReanchoring(trigger=0.2, other=PromptOptimization(target=0.3, steps=2))],
]
PROMPTS = (MEMORIZED, ORDINARY, MEMORIZED)


def run(chain, rule, rows=(0, 1, 2)):
    start = started(PROMPTS).select(torch.tensor(rows))
    made = sample_mitigated(chain, start, rule, SCHEDULE, solver=DDIM())
    return made, start.denoiser.count[list(rows)]


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize(
    "rule", [Constant(3.0), Static(0.5, before=1.0, after=3.0), Static(0.5, before=0.0, after=3.0)]
)
def test_a_chain_is_counted_and_leaves_each_sample_alone(chain, rule):
    together, count = run(chain, rule)
    assert torch.equal(together.trace.nfe, count)
    for b in range(len(PROMPTS)):
        alone, count = run(chain, rule, (b,))
        # Float64 sums in another order, multiplied by guidance and by AdamW's first sign-like step.
        torch.testing.assert_close(together.latents[b], alone.latents[0], atol=1e-7, rtol=1e-7)
        assert together.trace.nfe[b] == alone.trace.nfe[0] == count[0]
        for whole, one in zip(together.outcomes, alone.outcomes, strict=True):
            assert [v[b] for v in whole[1:]] == [v[0] for v in one[1:]]
