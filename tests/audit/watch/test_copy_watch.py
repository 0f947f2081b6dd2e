"""A watch says what was drawn, and the training does not notice it."""

import contextlib
import functools
import os
import socket
import subprocess
import sys
from itertools import chain
from math import ceil
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from adapters.tiny_sd import build_with_text
from peft import LoraConfig
from PIL import Image
from reference import toy_index, watched
from reference.watched import CAPTIONS, modules, training_pictures, watch

import sidestep
from sidestep.audit.index import open_index
from sidestep.audit.watch.drawing import Drawing, Drawn, prompts_of
from sidestep.errors import BadData, BadModel, SidestepError
from sidestep.models import embedded
from sidestep.models.embedded import pictures
from sidestep.runs.generate import Job
from sidestep.similarity.calibration import calibrate
from sidestep.similarity.intervals import clopper_pearson
from sidestep.similarity.pixels import Pixels


def train(kind, watching):
    """Three steps with a watch between backward and optimizer, or without; all that is left."""
    pipe = build_with_text()
    unet, backward, around = pipe.unet, torch.Tensor.backward, contextlib.nullcontext
    unet.train()
    unet.mid_block.eval()
    unet.enable_gradient_checkpointing()
    parameters = list(unet.parameters())
    if kind == "lora":
        unet.requires_grad_(False)
        torch.manual_seed(3)
        unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], lora_dropout=0.5))
        parameters = [p for p in unet.parameters() if p.requires_grad]
    optimizer, network = torch.optim.AdamW(parameters, lr=1e-2), unet
    if kind in ("bf16", "bf16 around"):
        accelerator = Accelerator(cpu=True, mixed_precision="bf16")
        network, optimizer = accelerator.prepare(unet, optimizer)
        backward = accelerator.backward
    if kind == "bf16 around":
        around = functools.partial(torch.autocast, "cpu", torch.bfloat16)
    watched.seed()
    told, grads = [], []
    for number in range(3):

        def between(number=number):
            if watching:
                told.append(watching(number, **modules(pipe, unet=network)))
            grads.append([None if p.grad is None else p.grad.clone() for p in parameters])

        with around():
            # Also before the first forward pass, where an autocast has cast no weight yet.
            if watching and number == 0:
                told.append(watching(0, **modules(pipe, unet=network)))
            watched.step(network, pipe, optimizer, between, backward)
    modes = [m.training for m in unet.modules()]
    flags = [(p.requires_grad, p.dtype, p.device) for p in unet.parameters()]
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in unet.modules()]
    left = watched.digest(unet, optimizer), watched.numbers(), modes, flags, hooks
    return left, grads, told


@pytest.mark.parametrize("kind", ["plain", "lora", "bf16", "bf16 around"])
def test_a_watched_training_is_the_same_to_the_bit(kind):
    left, grads, _ = train(kind, None)
    seen, others, told = train(kind, watch(log=watched.Noisy()))
    assert [r.step for r in told if r] == [0, 1, 2]
    assert seen == left
    for one, two in zip(chain(*grads), chain(*others), strict=True):
        assert (one is None and two is None) or torch.equal(one, two)
    assert any(g is not None and g.abs().sum() > 0 for g in grads[0])


def test_a_report_depends_on_weights_seed_prompts_and_draws_alone():
    pipe = build_with_text()
    first = watch(calibration=images(9))(0, pipe)
    torch.manual_seed(99)
    pipe.unet.train()
    again = watch(calibration=images(9), batch=1)(700, pipe)
    # A batch of one rounds differently, by less than half a level of 255 in almost every pixel.
    assert again.similarity_mean == pytest.approx(first.similarity_mean, abs=1e-3)
    other = watch(calibration=images(9), seed=1)(0, pipe)
    assert abs(other.similarity_mean - first.similarity_mean) > 1e-3


def images(count, seed=7):
    return [picture for picture, _ in training_pictures(count, seed)]


def stub(monkeypatch, made):
    """Draw these pictures; the ranges of draws that were asked for."""
    asked = []

    def draw(self, model, first, last):
        asked.append((first, last))
        chosen = made(first, last)
        return Drawn([Job("prompt", i) for i in range(len(chosen))], chosen, 7 * len(chosen))

    monkeypatch.setattr(Drawing, "draw", draw)
    return asked


def test_a_report_counts_what_was_given_back(monkeypatch):
    rows = training_pictures()
    shown = [rows[2][0], rows[1][0], rows[2][0], *images(5, seed=8)]
    stub(monkeypatch, lambda first, last: np.stack(shown))
    seen = watch(calibration=images(60), rate=0.02)(0, build_with_text())
    assert (seen.pictures, seen.copies, seen.nfe) == (8, 3, 56)
    assert seen.rate == (3 / 8, *clopper_pearson(3, 8))
    assert [(g.id, g.caption, g.copies) for g in seen.given_back] == [
        ("2", "a tree", 2),
        ("1", "a ship", 1),
    ]
    recipe = Pixels(4)
    table = recipe.embed(np.stack(shown)) @ recipe.embed(np.stack([p for p, _ in rows])).T
    top = table.max(axis=1)
    assert seen.similarity_mean == pytest.approx(top.mean(), abs=1e-6)  # float32 against float64
    assert seen.similarity_p95 == pytest.approx(np.percentile(top, 95), abs=1e-6)


def test_the_untouched_model_calibrates_with_draws_that_no_report_shows(monkeypatch):
    r = np.random.default_rng(0)

    def made(first, last):
        return r.integers(0, 256, (4 * (last - first), 8, 8, 3), dtype=np.uint8)

    asked = stub(monkeypatch, made)
    watching = watch(draws=2, rate=0.05)
    assert watching.calibration is None
    watching(0, build_with_text())
    assert asked == [(2, 2 + ceil(19 / 4)), (0, 2)]
    assert watching.calibration.controls == 20
    watching(1, build_with_text())
    assert asked[2:] == [(0, 2)]


def test_what_rises_by_chance_is_called_a_copy_no_more_often_than_the_rate(monkeypatch):
    """Over many trainings that change nothing, false alarms stay within the rate on average."""
    r = np.random.default_rng(0)
    stub(
        monkeypatch,
        lambda a, b: r.integers(0, 256, (4 * (b - a), 8, 8, 3), dtype=np.uint8),
    )
    pipe, found = build_with_text(), 0
    for _ in range(60):
        found += watch(draws=10, rate=0.1)(0, pipe).copies
    # 2400 pictures, 12 controls of which the highest decides: at most 1 in 13 on average. One
    # threshold serves 40 pictures, so the share has a deviation of about 0.072 / sqrt(60).
    assert 0.03 < found / 2400 < 1 / 13 + 4 * 0.072 / 60**0.5


def test_reports_come_every_so_many_steps_and_once():
    pipe, watching = build_with_text(), watch(every=3, calibration=images(9))
    told = [watching(s, pipe) for s in (0, 0, 1, 2, 3, 3, 4)]
    assert [t.step if t else None for t in told] == [0, None, None, None, 3, None, None]
    assert list(watching.reports) == [0, 3]


def test_an_untouched_model_cannot_be_had_later():
    with pytest.raises(SidestepError, match="first call is of step 7"):
        watch()(7, build_with_text())


def test_other_processes_are_told_nothing(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    assert watch()(0) is None
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)
    assert watch()(0, build_with_text()) is not None


@pytest.mark.slow
def test_two_processes_train_as_they_do_unwatched():
    def processes(how):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        root = Path(watched.__file__).parents[1]
        path = os.pathsep.join([str(root), *filter(None, sys.path)])
        begun = []
        for rank in "01":
            more = {"RANK": rank, "LOCAL_RANK": rank, "PYTHONPATH": path} | common
            begun.append(
                subprocess.Popen(
                    [sys.executable, watched.__file__, how],
                    env=os.environ | more,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
        return [p.communicate(timeout=300)[0].split(maxsplit=2) for p in begun]

    (kind, plain, _), _ = processes("alone")
    first, second = processes("watched")
    assert kind == "DistributedDataParallel"
    assert [first[1], second[1]] == [plain, plain]
    assert [first[2].strip(), second[2].strip()] == ["[True, True]", "[False, False]"]


def test_an_index_is_training_pictures_too(tmp_path):
    (tmp_path / "set").mkdir()
    for number, (picture, caption) in enumerate(training_pictures()):
        Image.fromarray(picture).save(tmp_path / "set" / f"{number}.png")
        (tmp_path / "set" / f"{number}.txt").write_text(caption)
    (tmp_path / "other").mkdir()
    for number, picture in enumerate(images(9)):
        Image.fromarray(picture).save(tmp_path / "other" / f"{number}.png")
    out = tmp_path / "index"
    toy_index.build(tmp_path / "set", out, side=8)
    pipe = build_with_text()
    index = open_index(out)
    settings = {"calibration": tmp_path / "other", "captions": CAPTIONS}
    seen = watch(training=index, resolution=None, **settings)(0, pipe)
    by_folder = watch(training=tmp_path / "set", **settings)(0, pipe)
    # An index keeps float16: 11 bits.
    assert seen.similarity_mean == pytest.approx(by_folder.similarity_mean, abs=2e-3)
    assert watch(training=out, resolution=None, **settings)(0, pipe).copies == seen.copies
    with pytest.raises(ValueError, match="resolution is 16"):
        watch(training=index, resolution=16)


def test_arguments_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match="resolution is missing"):
        watch(resolution=None)
    with pytest.raises(ValueError, match="every is 0"):
        watch(every=0)
    with pytest.raises(ValueError, match="rate is 2"):
        watch(rate=2)
    with pytest.raises(ValueError, match="there is no prompt"):
        watch(captions=[])
    with pytest.raises(ValueError, match="calibration is of sscd"):
        watch(calibration=calibrate("sscd", [0.1] * 9, 0.2))
    with pytest.raises(ValueError, match="3 control pictures cannot bound"):
        watch(calibration=images(3))
    with pytest.raises(ValueError, match="a picture came as list"):
        watch(training=[([1], "a fox")])
    with pytest.raises(BadData, match="no training picture"):
        watch(training=[])
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(BadData, match=r"a\.png .* cannot be read"):
        watch(training=tmp_path)
    pipe = build_with_text()
    with pytest.raises(BadModel, match="vae, tokenizer, scheduler is missing"):
        watch()(0, unet=pipe.unet, text_encoder=pipe.text_encoder)
    with pytest.raises(BadModel, match="a pipeline and modules came"):
        watch()(0, pipe, unet=pipe.unet)


def test_captions_are_chosen_by_the_seed():
    every = [f"caption {i % 50}" for i in range(80)] + [None, ""]
    chosen = prompts_of(every, 7, seed=1)
    assert len(set(chosen)) == 7
    assert chosen == prompts_of(every, 7, seed=1) != prompts_of(every, 7, seed=2)
    assert prompts_of(every, 1000, seed=1) == tuple(dict.fromkeys(every[:50]))


@pytest.mark.slow
def test_memorized_scenes_are_found_and_ordinary_pictures_are_not():
    model = sidestep.load(embedded.folder())
    others = [p.pixels for p in pictures.control_pictures(4)]
    settings = {"steps": 20, "resolution": 64, "recipe": "pixels", "batch": 16}
    scenes = [(p.pixels, p.caption) for p in pictures.target_pictures()[:16]]
    seen = sidestep.CopyWatch(scenes, calibration=others, **settings)(0, model.pipe)
    # docs/model-card.md: 97 % of the target captions' pictures are copies under plain guidance.
    assert seen.rate.share > 0.8
    assert all(g.similarity > 0.8 for g in seen.given_back)
    never = [(p.pixels, f"a {p.caption}") for p in pictures.control_pictures(1)[:16]]
    assert sidestep.CopyWatch(never, calibration=others, **settings)(0, model.pipe).copies <= 2
    # What the untouched model copies already hides what it copies later.
    blind = sidestep.CopyWatch(scenes, rate=0.05, **settings)(0, model.pipe)
    assert blind.rate.share < 0.3
