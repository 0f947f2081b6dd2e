"""TensorBoard and Weights & Biases hold what a report says."""

import importlib.util

import numpy as np
import pytest
from adapters.tiny_sd import build_with_text
from reference.watched import training_pictures, watch

from sidestep.audit.watch import TensorBoard, WandB, loggers
from sidestep.errors import MissingExtra


def test_a_logger_is_told_the_numbers_and_the_closest_pictures():
    told = []

    class Own:
        def log(self, step, values, pictures):
            told.append((step, values, pictures))

    seen = watch(log=Own())(0, build_with_text())
    ((step, values, shown),) = told
    assert (step, values) == (0, seen.values)
    assert values["copies/rate"] == seen.rate.share
    assert len(shown) == 4
    assert all(s.image.shape == (8, 16, 3) for s in shown)  # the picture, and the nearest beside it
    trained = [p.tobytes() for p, _ in training_pictures()]
    assert all(np.ascontiguousarray(s.image[:, 8:]).tobytes() in trained for s in shown)


def test_tensorboard_holds_scalars_and_pictures(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    watching = watch(log=[TensorBoard(tmp_path)])
    reports = [watching(step, build_with_text()) for step in (0, 1)]
    found = events.EventAccumulator(str(tmp_path)).Reload()
    for name in ("similarity/mean", "copies/high"):
        logged = [(e.step, e.value) for e in found.Scalars(f"sidestep/{name}")]
        # TensorBoard keeps float32.
        assert logged == [(r.step, pytest.approx(r.values[name], rel=1e-6)) for r in reports]
    assert [e.width for e in found.Images("sidestep/closest/1")] == [16, 16]


def test_a_writer_of_the_training_is_used_as_it_is():
    class Writer:
        calls = ()

        def __getattr__(self, name):
            return lambda *args, **more: setattr(self, "calls", (*self.calls, name))

    writer = Writer()
    watch(log=TensorBoard(writer))(0, build_with_text())
    assert set(writer.calls) == {"add_scalar", "add_image", "add_text", "flush"}


@pytest.mark.slow
def test_wandb_holds_scalars_and_pictures_offline(tmp_path):
    wandb = pytest.importorskip("wandb")
    with wandb.init(mode="offline", dir=tmp_path, project="test") as run:
        run.log({"loss": 1.0}, step=500)  # a later step of the training's own
        watching = watch(log=WandB(run))
        reports = [watching(step, build_with_text()) for step in (0, 1)]
        summary = dict(run.summary)
    assert summary["sidestep/step"] == 1
    assert summary["sidestep/similarity/mean"] == reports[1].similarity_mean
    assert summary["sidestep/closest"]["count"] == 4
    assert len(list(tmp_path.rglob("*.png"))) >= 4


@pytest.mark.parametrize(
    ("make", "package"),
    [(lambda: TensorBoard("runs"), "tensorboard"), (lambda: WandB(None), "wandb")],
)
def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch, make, package):
    real = importlib.util.find_spec
    monkeypatch.setattr(loggers, "find_spec", lambda name: None if name == package else real(name))
    with pytest.raises(MissingExtra, match=rf"{package}.*pip install 'sidestep\[watch\]'"):
        make()
