"""What every registered mitigation keeps, whichever it is, on a memorizer in closed form."""

import math
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace

import pytest
import torch
from contract.mitigation_cases import CASES, GRADIENTS, STEPS
from reference.captioned import Captions

from sidestep import registry
from sidestep.errors import SidestepError
from sidestep.guidance import Constant
from sidestep.mitigations import Start, Unfit
from sidestep.rng import noise
from sidestep.sampling import DDIM, NoiseSchedule
from sidestep.sampling.mitigated import sample_mitigated

SCHEDULE = NoiseSchedule.scaled_linear()
CAPTION, COPIED = "big red fox", 0  # the caption of picture 0; picture 1 shows a fox too
SCALE = 3.0

every = pytest.mark.parametrize("name", [e.name for e in registry.entries("mitigation")])


def run(mitigation, seeds, caption=CAPTION, rule=None, wrap=lambda denoiser: denoiser):
    """The run, and the evaluations that were really made, (B,)."""
    model = Captions({CAPTION: COPIED})
    prompts = (caption,) * len(seeds)
    denoiser = model.denoiser(prompts)
    start = Start(
        denoiser=wrap(denoiser),
        x=noise(list(seeds), tuple(model.points.shape[1:])).double(),
        levels=tuple(SCHEDULE.grid(STEPS)),
        seeds=tuple(seeds),
        prompts=prompts,
        model=model,
        scale=SCALE,
    )
    chain = [] if mitigation is None else [mitigation]
    made = sample_mitigated(chain, start, rule or Constant(SCALE), SCHEDULE, solver=DDIM())
    return made, denoiser.count


def copies(latents):
    """Which samples ended on the memorized picture."""
    points = Captions({}).points
    away = (latents[:, None] - points).flatten(2).norm(dim=2)
    return (away.argmin(1) == COPIED) & (away.amin(1) < 1.0)


@every
def test_it_has_a_case_and_says_its_name(name):
    kind = registry.get(name, "mitigation").load()
    assert name in CASES, "add a line to contract/mitigation_cases.py"
    assert is_dataclass(kind) and kind.name == name
    with pytest.raises(FrozenInstanceError):
        setattr(CASES[name].strong, fields(CASES[name].strong)[0].name, 3.0)


def test_the_memorizer_copies_without_a_mitigation():
    made, count = run(None, range(16))
    assert copies(made.latents).float().mean() > 0.9
    assert count.tolist() == [2 * STEPS] * 16


@every
def test_neutral_is_plain_guidance(name):
    plain, _ = run(None, range(4))
    made, _ = run(CASES[name].neutral, range(4))
    assert torch.equal(made.latents, plain.latents)


@every
def test_a_batch_equals_its_singles(name):
    together, _ = run(CASES[name].strong, range(3))
    for i in range(3):
        alone, _ = run(CASES[name].strong, [i])
        # Sums over the pictures run in another order in another batch size.
        torch.testing.assert_close(together.latents[i], alone.latents[0], atol=1e-7, rtol=1e-7)
        for one, other in zip(together.outcomes, alone.outcomes, strict=True):
            assert one.name == name and bool(one.reached[i]) == bool(other.reached[0])


@every
def test_evaluations_are_the_stated_formula(name):
    case = CASES[name]
    made, count = run(case.strong, range(3))
    expected = case.before(case.strong) + case.during(case.strong)
    assert made.trace.nfe.tolist() == [expected] * 3
    assert count.tolist() == [expected] * 3
    assert (made.outcomes[0].backward > 0).tolist() == [name in GRADIENTS] * 3


@every
def test_seeds_repeat(name):
    once, _ = run(CASES[name].strong, range(3))
    again, _ = run(CASES[name].strong, range(3))
    assert torch.equal(once.latents, again.latents)


@every
def test_it_moves_the_outcome_as_its_paper_claims(name):
    plain, _ = run(None, range(16))
    made, _ = run(CASES[name].strong, range(16))
    assert copies(made.latents).sum() < copies(plain.latents).sum()
    assert made.latents.isfinite().all()


@every
def test_a_setting_that_is_no_number_is_named(name):
    strong = CASES[name].strong
    for field in fields(strong):
        if isinstance(getattr(strong, field.name), float):
            with pytest.raises(ValueError, match=f"{field.name} (is )?nan; (?!a guidance scale)"):
                replace(strong, **{field.name: math.nan})


@pytest.mark.parametrize("name", sorted(GRADIENTS))
def test_gradients_are_asked_for_in_a_sentence(name):
    with torch.inference_mode(), pytest.raises(SidestepError, match=f"{name} needs gradients"):
        run(CASES[name].strong, range(2))
    with pytest.raises(Unfit, match="Opaque lets no gradients through to its"):
        run(CASES[name].strong, range(2), wrap=Opaque)


class Opaque:
    """A network outside of torch, as one of ONNX is."""

    def __init__(self, inner):
        self.inner, self.text = inner, inner.text

    def select(self, rows):
        return Opaque(self.inner.select(rows))

    def with_text(self, text):
        return Opaque(self.inner.with_text(text))

    def __call__(self, x, level, needs):
        with torch.no_grad():
            return self.inner(x, level, needs)
