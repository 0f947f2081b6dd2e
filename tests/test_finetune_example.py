"""The examples that write twenty pictures and fine-tune a LoRA on them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from sidestep.adapters.stable_diffusion import load
from sidestep.models import embedded
from sidestep.models.embedded import pictures
from sidestep.similarity.pixels import Pixels
from sidestep.sources.collection import open_collection
from sidestep.sources.pictures import read

EXAMPLES = Path(__file__).parents[1] / "examples"
COPIED = 0.85  # pixel correlation with the training picture of the prompt


def script(name, *arguments):
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What twenty_pictures.py writes."""
    out = tmp_path_factory.mktemp("pictures")
    done = script("twenty_pictures", "--out", out)
    assert done.returncode == 0, done.stderr
    return out


def items(folder):
    return list(open_collection(str(folder)).items())


def test_twenty_pictures_and_300_controls_of_captions_nobody_trained_on(folder):
    training, controls = items(folder / "training"), items(folder / "controls")
    assert (len(training), len(controls)) == (20, 300)
    captions = [i.caption for i in training + controls]
    assert len(set(captions)) == 320
    trained = {*pictures.concepts(), *(prop for t in pictures.targets() for prop in t.props)}
    assert not trained & set(captions)


def test_no_control_is_nearly_a_training_picture(folder):
    rows = [
        Pixels().embed(np.stack([read(i.data, 64) for i in items(folder / part)]))
        for part in ("training", "controls")
    ]
    # Other drawings on other grounds: the share that a calibrated threshold would let pass.
    assert np.mean((rows[1] @ rows[0].T).max(axis=1) > COPIED) <= 0.01


FEW = ["--steps", 2, "--batch", 3, "--rank", 2]


def test_a_lora_of_two_steps_is_read_and_changes_the_model(folder, tmp_path):
    done = script("finetune_lora", folder / "training", "--out", tmp_path, *FEW)
    assert done.returncode == 0, done.stderr
    assert "step 2 of 2  loss" in done.stdout
    model = load(embedded.folder(), lora=tmp_path)
    changed = model.fingerprint
    with model.without_lora() as base:
        assert base.fingerprint == load(embedded.folder()).fingerprint != changed


def test_the_seed_fixes_the_lora(folder, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        more = ["--out", tmp_path / name, "--seed", seed]
        assert script("finetune_lora", folder / "training", *more, *FEW).returncode == 0
    a, b, c = (load_file(tmp_path / n / "pytorch_lora_weights.safetensors") for n in "abc")
    assert all(np.array_equal(a[n], b[n]) for n in a)
    assert any(not np.array_equal(a[n], c[n]) for n in a)


def test_a_picture_without_a_caption_is_named(folder, tmp_path):
    item = items(folder / "training")[0]
    (tmp_path / "alone.png").write_bytes(item.data.read_bytes())
    done = script("finetune_lora", tmp_path, "--out", tmp_path / "lora", *FEW)
    assert done.returncode == 1
    assert "alone.png has no caption" in done.stderr
