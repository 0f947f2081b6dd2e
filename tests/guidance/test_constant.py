import torch

from sidestep.guidance import Constant, Needs, Prediction, Scheduled


def test_one_scale_at_every_step_on_from_the_start():
    uncond, cond = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    rule = Constant(7.5)
    for time in (0.999, 0.5, 0.02):
        guided, _ = rule.step(Prediction(uncond, cond, time), rule.init(3))
        assert torch.equal(guided.noise, uncond + 7.5 * (cond - uncond))
        assert guided.scale.tolist() == [7.5] * 3
        assert guided.on.all() and not guided.fell_back.any()


def test_the_scale_is_float32_whatever_the_default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        one = torch.zeros(2, 3)
        assert Constant().step(Prediction(one, one + 1, 0.5), None)[0].scale.dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_schedule_moves_the_scale_and_the_needs_follow_it():
    rule = Constant(Scheduled("linear", 2.0))
    one = torch.zeros(1, 2)
    guided, _ = rule.step(Prediction(one, one + 1, 0.25), None)
    assert guided.scale.tolist() == [1.5]
    assert rule.needs(1.0) == Needs(cond=False)  # scale 0
    assert rule.needs(0.5) == Needs(uncond=False)  # scale 1
    assert rule.needs(0.25) == Needs()
