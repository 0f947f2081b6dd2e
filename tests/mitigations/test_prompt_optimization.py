"""Against a network whose gap has its gradient in closed form: eps_c = A e, eps_u = 0."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from mitigations.runs import MEMORIZED, ORDINARY, started
from reference.text_methods import adamw_until_quiet

from sidestep.errors import SidestepError
from sidestep.guidance import Prediction
from sidestep.guidance.base import BOTH
from sidestep.mitigations import Start, Text, Unfit
from sidestep.mitigations.prompt_optimization import PromptOptimization
from sidestep.sampling import NoiseSchedule

TOKENS, WIDTH, SIZE = 4, 3, 6
LEVELS = tuple(NoiseSchedule.scaled_linear().grid(5))
MATRIX = torch.randn(
    SIZE, TOKENS * WIDTH, generator=torch.Generator().manual_seed(3), dtype=torch.float64
)


@dataclass(frozen=True)
class Linear:
    text: Text
    matrix: torch.Tensor = MATRIX

    def __call__(self, x, level, needs):
        cond = self.text.cond.flatten(1) @ self.matrix.T
        return Prediction(torch.zeros_like(cond), cond, level.time)

    def select(self, rows):
        return replace(self, text=self.text.select(rows))

    def with_text(self, text):
        return replace(self, text=text)


class Opaque(Linear):
    @torch.no_grad()
    def __call__(self, x, level, needs):
        return super().__call__(x, level, needs)


def linear(batch=4, kind=Linear, dtype=torch.float64):
    rows = [
        torch.randn(TOKENS, WIDTH, generator=torch.Generator().manual_seed(b), dtype=torch.float64)
        for b in range(batch)
    ]
    cond = torch.stack([row * 0.6**b for b, row in enumerate(rows)]).to(dtype)
    text = Text(cond, torch.zeros_like(cond), torch.full((batch,), TOKENS))
    x = torch.zeros(batch, SIZE, dtype=dtype)
    return Start(kind(text, MATRIX.to(dtype)), x, LEVELS, tuple(range(batch)))


def loss_and_gradient(start_token):
    """Of the words alone, the start token fixed, in plain loops."""
    matrix = MATRIX.tolist()

    def of(words):
        values = start_token + words
        out = [sum(a * e for a, e in zip(row, values, strict=True)) for row in matrix]
        norm = math.sqrt(sum(o * o for o in out))
        columns = range(len(start_token), len(values))
        return norm, [sum(matrix[i][j] * out[i] for i in range(SIZE)) / norm for j in columns]

    return of


@pytest.mark.parametrize("target", [0.0, 2.0, 4.0])
def test_it_is_adamw_of_each_sample_until_its_target(target):
    start, settings = linear(), PromptOptimization(target=target, steps=7, rate=0.1)
    made = settings.begin(start)
    (outcome,) = made.outcomes
    for b, tokens in enumerate(start.text.cond.flatten(1).tolist()):
        words, met, looks, updates = adamw_until_quiet(
            tokens[WIDTH:], loss_and_gradient(tokens[:WIDTH]), target, 7, 0.1
        )
        expected = torch.tensor(tokens[:WIDTH] + words, dtype=torch.float64)
        # Seven updates of float64 numbers; sums of a dozen of them in another order.
        torch.testing.assert_close(made.text.cond[b].flatten(), expected, atol=1e-10, rtol=1e-10)
        assert (bool(outcome.reached[b]), int(outcome.nfe[b])) == (met, 2 * looks)
        assert int(outcome.backward[b]) == updates
    if target == 2.0:  # the batch holds a quiet sample, one that becomes quiet, and a loud one
        assert set(outcome.backward.tolist()) >= {0, 7} and outcome.reached.any()
    assert torch.equal(made.text.cond[:, 0], start.text.cond[:, 0])


def test_a_sample_in_a_batch_is_the_sample_alone():
    settings = PromptOptimization(target=2.0, steps=5, rate=0.1)
    together = settings.begin(linear())
    for b in range(4):
        alone = settings.begin(linear().select(torch.tensor([b])))
        torch.testing.assert_close(together.text.cond[b], alone.text.cond[0])
        for whole, one in zip(together.outcomes[0][1:], alone.outcomes[0][1:], strict=True):
            assert whole[b] == one[0]


def test_a_quiet_prompt_is_returned_unchanged():
    start = started()
    made = PromptOptimization(target=1e3).begin(start)
    assert torch.equal(made.text.cond, start.text.cond)
    assert made.outcomes[0].nfe.tolist() == [2, 2] and not made.outcomes[0].backward.any()


def test_it_says_where_the_target_was_not_met_and_lowers_the_gap_all_the_same():
    start = started((MEMORIZED, ORDINARY))
    before = start.denoiser(start.x, start.levels[0], BOTH).gap
    made = PromptOptimization(target=float(before.min()) / 50, steps=5).begin(start)
    after = made.denoiser(made.x, made.levels[0], BOTH).gap
    assert made.outcomes[0].reached.tolist() == [False, False]
    assert (after < before).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_divide_by_zero(dtype):
    made = PromptOptimization(target=0.0, steps=3).begin(linear(dtype=dtype))
    assert made.text.cond.dtype == dtype and made.text.cond.isfinite().all()


def test_no_gradient_is_left_on_anything_of_the_caller():
    start = linear()
    with torch.no_grad():
        made = PromptOptimization(target=0.0, steps=2).begin(start)
    assert not made.text.cond.requires_grad and start.text.cond.grad is None
    assert not start.text.cond.requires_grad


def test_inference_mode_is_refused():
    with torch.inference_mode(), pytest.raises(SidestepError, match="records none"):
        PromptOptimization().begin(linear())


def test_a_network_without_gradients_is_refused():
    with pytest.raises(Unfit, match="Opaque lets no gradients through"):
        PromptOptimization(target=0.0).begin(linear(kind=Opaque))


@pytest.mark.parametrize("given", [{"target": -1.0}, {"steps": -1}, {"rate": 0.0}])
def test_settings_out_of_range_are_refused(given):
    with pytest.raises(ValueError, match=next(iter(given))):
        PromptOptimization(**given)
