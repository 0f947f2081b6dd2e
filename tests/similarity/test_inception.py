"""FID and KID: the distances against their formulas, the features against a stand-in network."""

import hashlib
import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.linalg import sqrtm

from sidestep.errors import BadModel, MissingExtra, SidestepWarning
from sidestep.similarity import inception
from sidestep.similarity.inception import Inception, clean, fid, kid
from sidestep.similarity.published import Published


class Layers(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(x, (32, 64)).mean(1).flatten(1)


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = Layers()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


@pytest.fixture
def network(tmp_path, monkeypatch):
    path = tmp_path / "network.pt"
    torch.jit.script(Network()).save(str(path))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(inception, "WEIGHTS", Published("network.pt", digest, "here"))
    return path


def pictures(n=3, side=64):
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3)).astype(np.uint8)


def rows(seed, n, width=8, shift=0.0):
    return np.random.default_rng(seed).normal(shift, 1, (n, width)).astype(np.float32)


def test_fid_is_the_frechet_distance_of_two_normals():
    a, b = rows(0, 60), rows(1, 80, shift=0.5)
    with pytest.warns(SidestepWarning, match="FID of 60 pictures"):
        found = fid(a, b)
    x, y = a.astype(float), b.astype(float)
    s, t = np.cov(x.T), np.cov(y.T)
    apart = x.mean(0) - y.mean(0)
    expected = apart @ apart + np.trace(s + t - 2 * sqrtm(s @ t).real)
    assert found == pytest.approx(expected, rel=1e-6)  # two ways to a matrix root, float64


@pytest.mark.filterwarnings("ignore::sidestep.errors.SidestepWarning")
def test_fid_of_few_pictures_is_bias_and_kid_is_not():
    few = [(rows(2 * i, 20), rows(2 * i + 1, 20)) for i in range(40)]
    many = rows(100, 2000), rows(101, 2000)
    assert min(fid(a, b) for a, b in few) > 10 * fid(*many)
    kids = [kid(a, b) for a, b in few]
    # 4 standard errors of the mean of 40.
    assert abs(np.mean(kids)) < 4 * np.std(kids) / np.sqrt(40)


def test_kid_is_what_the_library_estimates_with_one_subset_of_everything():
    from torchmetrics.image.kid import KernelInceptionDistance

    a, b = rows(0, 50), rows(1, 50, shift=0.3)
    library = KernelInceptionDistance(feature=inception._Given(8), subsets=1, subset_size=50)
    library.update(torch.from_numpy(b).double(), real=True)
    library.update(torch.from_numpy(a).double(), real=False)
    assert kid(a, b) == pytest.approx(float(library.compute()[0]), rel=1e-6)  # it returns float32


def test_clean_resizing_keeps_fractions_and_stays_in_range():
    images = pictures()
    found = clean(images)
    assert found.shape == (3, 3, 299, 299)
    assert 0 <= found.min() < found.max() <= 255
    assert (found != np.round(found)).mean() > 0.5
    # Greys that do not overshoot: PIL's 8-bit result is the same, rounded in both passes.
    grey = 96 + images[0] // 4
    whole = np.asarray(Image.fromarray(grey).resize((299, 299), Image.Resampling.BICUBIC))
    off = np.abs(clean(grey[None])[0].transpose(1, 2, 0) - whole)
    # The first rounding is weighted by up to the kernel's absolute sum of 1.3 before the second.
    assert off.max() <= 0.5 * 1.3 + 0.5


def test_features_are_the_layers_answer_on_minus_one_to_one(network):
    recipe = Inception(network, batch=2)
    found = recipe.features(pictures())
    expected = Layers()(torch.from_numpy((clean(pictures()) - 128) / 128)).numpy()
    assert found == pytest.approx(expected, abs=1e-5)  # float32 means
    assert recipe.features(pictures()[:0]).shape == (0, 2048)
    assert recipe.fingerprint == hashlib.sha256(network.read_bytes()).hexdigest()


def test_another_file_is_refused(network, tmp_path):
    other = tmp_path / "other.pt"
    other.write_bytes(network.read_bytes()[:-1])
    with pytest.raises(BadModel, match="published is"):
        Inception(other)


@pytest.mark.parametrize(
    ("a", "b", "sentence"),
    [
        (rows(0, 1), rows(1, 5), "two or more"),
        (rows(0, 5), rows(1, 1), r"rows \(N, D\)"),
        (rows(0, 5), rows(1, 5, width=7), r"rows \(N, D\)"),
        (rows(0, 5) * np.nan, rows(1, 5), "not finite"),
    ],
)
def test_what_has_no_distance_is_refused(a, b, sentence):
    with pytest.raises(ValueError, match=sentence):
        fid(a, b)


def test_without_the_library_the_sentence_says_what_to_type(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics.image.fid", None)
    with pytest.raises(MissingExtra, match=r"sidestep\[metrics\]"):
        fid(rows(0, 5), rows(1, 5))


def test_enough_pictures_are_not_warned_about():
    many = rows(0, inception.ENOUGH, width=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error", SidestepWarning)
        assert fid(many, many) == pytest.approx(0, abs=1e-6)
