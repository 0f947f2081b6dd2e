"""Published SSCD: which file, which preset, which name. A tiny network stands in for it."""

import hashlib
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from sidestep.errors import BadModel, SidestepWarning
from sidestep.similarity import sscd_published
from sidestep.similarity.published import Published, sha256
from sidestep.similarity.sscd_published import PAPERS, PRESETS, WEIGHTS, PublishedSSCD


class Tiny(torch.nn.Module):
    """Descriptors of the right width: averages of a grid, mixed at random."""

    def __init__(self, width):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("mix", torch.randn(48, width, generator=generator))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(x, (4, 4)).flatten(1) @ self.mix


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("sscd") / "tiny.pt"
    torch.jit.script(Tiny(512)).save(str(path))
    return path


@pytest.fixture
def published(script, monkeypatch):
    """The tiny network is what is published as disc_mixup."""
    digest = hashlib.sha256(script.read_bytes()).hexdigest()
    weights = {**WEIGHTS, "disc_mixup": (Published("tiny.pt", digest, "here"), 512)}
    monkeypatch.setattr(sscd_published, "WEIGHTS", weights)
    return script


def pictures(n=3, height=40, width=60):
    r = np.random.default_rng(1)
    return r.integers(0, 256, (n, height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize("preset", PRESETS)
def test_rows_are_the_networks_answer_to_the_preset_at_length_one(published, preset):
    recipe = PublishedSSCD(published, preset=preset, batch=2)
    rows = recipe.embed(pictures())
    raw = Tiny(512)(torch.from_numpy(PRESETS[preset].apply(pictures()))).numpy()
    expected = raw / np.sqrt((raw.astype(float) ** 2).sum(1, keepdims=True))
    assert rows == pytest.approx(expected, abs=1e-5)  # float32 sums of 48 products
    assert rows.dtype == np.float32
    assert recipe.name == f"sscd-disc-mixup-{preset}"
    assert recipe.embed(pictures()[:0]).shape == (0, 512)


def test_sent_to_another_process_it_is_the_same_file_or_none(published, tmp_path, monkeypatch):
    file = tmp_path / "copy.pt"
    file.write_bytes(published.read_bytes())
    monkeypatch.chdir(tmp_path)
    recipe = PublishedSSCD(file.name, preset="dcr", batch=2)
    data = pickle.dumps(recipe)
    monkeypatch.chdir("/")
    sent = pickle.loads(data)
    assert (sent.name, sent.fingerprint, sent.batch) == (recipe.name, recipe.fingerprint, 2)
    np.testing.assert_array_equal(sent.embed(pictures()), recipe.embed(pictures()))
    file.write_bytes(file.read_bytes() + b"x")
    sha256.cache_clear()  # kept for a process, and a worker is another
    with pytest.raises(BadModel, match=r"copy\.pt has SHA-256"):
        pickle.loads(data)


def test_presets_that_differ_give_other_numbers(published):
    rows = [PublishedSSCD(published, preset=p).embed(pictures()) for p in PRESETS]
    for i, first in enumerate(rows):
        for other in rows[i + 1 :]:
            # The two squashes differ least: 3e-4 under this network, whose rounding is 1e-6.
            assert np.abs(first - other).max() > 1e-4


def test_the_presets_of_the_papers_exist_and_show_what_the_papers_say():
    assert all(w in WEIGHTS and p in PRESETS for w, p in PAPERS.values())
    shown = {name: how.apply(pictures(1, 512, 768)).shape[2:] for name, how in PRESETS.items()}
    assert shown == {
        "official": (288, 432),
        "official-320": (320, 320),
        "dcr": (224, 224),
        "membench": (288, 288),
    }
    # torchvision's default, which every one of the scripts leaves alone.
    assert {how.resample for how in PRESETS.values()} == {Image.Resampling.BILINEAR}


def test_another_file_is_refused_and_the_hash_stays_with_the_recipe(published, tmp_path):
    recipe = PublishedSSCD(published)
    assert recipe.fingerprint == hashlib.sha256(published.read_bytes()).hexdigest()
    other = tmp_path / "other.pt"
    other.write_bytes(published.read_bytes() + b"x")
    with pytest.raises(BadModel, match="published is"):
        PublishedSSCD(other)
    with pytest.raises(BadModel, match="there is no file"):
        PublishedSSCD(tmp_path / "none.pt")


def test_weights_without_a_published_hash_are_taken_once_and_then_expected(script):
    digest = hashlib.sha256(script.read_bytes()).hexdigest()
    with pytest.warns(SidestepWarning, match=digest):
        recipe = PublishedSSCD(script, "disc_large")
    assert recipe.fingerprint == digest
    PublishedSSCD(script, "disc_large", sha256=digest.upper())
    with pytest.raises(BadModel, match="expected is"):
        PublishedSSCD(script, "disc_large", sha256="0" * 64)


def test_a_network_of_another_width_is_found_out(script):
    digest = hashlib.sha256(script.read_bytes()).hexdigest()
    recipe = PublishedSSCD(script, "disc_large", sha256=digest)
    with pytest.raises(BadModel, match="holds another network"):
        recipe.embed(pictures())


def test_what_is_no_torchscript_is_refused(tmp_path):
    path = tmp_path / "text.pt"
    path.write_text("not a network")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(BadModel, match="cannot be read as TorchScript"):
        PublishedSSCD(path, "disc_large", sha256=digest)


@pytest.mark.parametrize(
    "settings", [{"weights": "large"}, {"preset": "wen"}, {"batch": 0}], ids=lambda s: next(iter(s))
)
def test_bad_settings_are_refused(script, settings):
    with pytest.raises(ValueError, match="presets official, official-320, dcr, membench"):
        PublishedSSCD(script, **settings)
