import pytest
import torch
from mitigations.runs import CLOSE, LEVELS, started
from reference.text_methods import cads

from sidestep.guidance import Needs
from sidestep.guidance.base import BOTH
from sidestep.mitigations.cads import CADS
from sidestep.rng import stream

SETTINGS = [CADS(), CADS(strength=0.7, low=0.2, high=0.8, mix=0.4), CADS(low=0.5, high=0.5)]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("level", LEVELS[::3], ids=lambda level: f"{level.time:g}")
def test_the_network_sees_the_embeddings_of_the_formula(settings, level):
    start = started()
    made = settings.begin(start).denoiser(start.x, level, BOTH)
    rows = []
    for seed, tokens in zip(start.seeds, start.text.cond, strict=True):
        noise = torch.randn(tokens.shape, generator=stream(seed, f"cads {level.timestep}"))
        given = settings.strength, settings.low, settings.high, settings.mix
        rows.append(cads(tokens.tolist(), noise.tolist(), level.time, *given))
    text = start.text._replace(cond=torch.tensor(rows, dtype=torch.float64))
    expected = start.denoiser.with_text(text)(start.x, level, BOTH)
    torch.testing.assert_close(made.cond, expected.cond, **CLOSE)
    assert torch.equal(made.uncond, expected.uncond)


def test_the_noise_is_fresh_at_each_step_and_belongs_to_the_sample():
    start = started(("fox", "fox"))
    denoiser = CADS(low=0.0, high=0.1).begin(start).denoiser
    x = start.x[:1].expand_as(start.x)
    first, second = (denoiser(x, level, BOTH).cond for level in LEVELS[:2])
    assert not torch.equal(first[0], first[1])
    again = denoiser.select(torch.tensor([1]))(x[1:], LEVELS[0], BOTH).cond
    torch.testing.assert_close(again[0], first[1], **CLOSE)
    assert not torch.equal(first, second)


def test_embeddings_without_strength_and_mix_say_nothing_when_hidden():
    settings, clean = CADS(strength=0.0, mix=0.0), torch.randn(1, 3, 4)
    assert not settings.noised(clean, torch.zeros_like(clean), 1.0).any()
    # Brought back to its deviation, what only shrank is itself up to rounding, also where it is 0.
    for time in (0.7, 1.0):
        back = CADS(strength=0.0).noised(clean, torch.zeros_like(clean), time)
        torch.testing.assert_close(back, clean)


def test_no_strength_is_plain_guidance():
    start = started()
    assert CADS(strength=0.0).begin(start).denoiser is start.denoiser


def test_the_unconditional_branch_alone_is_left_alone():
    start = started()
    made = CADS().begin(start).denoiser(start.x, LEVELS[0], Needs(cond=False))
    assert torch.equal(made.uncond, start.denoiser(start.x, LEVELS[0], Needs(cond=False)).uncond)


@pytest.mark.parametrize(
    "given", [{"low": 0.9, "high": 0.6}, {"mix": 1.5}, {"low": -0.1}, {"strength": float("nan")}]
)
def test_settings_out_of_range_are_refused(given):
    with pytest.raises(ValueError, match=next(iter(given))):
        CADS(**given)
