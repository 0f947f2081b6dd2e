"""LPIPS against its formulas, under a random AlexNet and the published heads."""

import hashlib

import numpy as np
import pytest
import torch
from reference import lpips_loops

from sidestep.errors import BadModel, MissingExtra
from sidestep.similarity import lpips
from sidestep.similarity.lpips import CONVOLUTIONS, LPIPS
from sidestep.similarity.published import Published


@pytest.fixture(scope="module")
def weights():
    generator = torch.Generator().manual_seed(0)
    found = {}
    for number, into, out, kernel, _, _ in CONVOLUTIONS:
        size = (2 / (into * kernel**2)) ** 0.5
        shape = (out, into, kernel, kernel)
        found[f"features.{number}.weight"] = size * torch.randn(shape, generator=generator)
        found[f"features.{number}.bias"] = 0.1 * torch.randn(out, generator=generator)
    return found


@pytest.fixture(scope="module")
def alexnet(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("lpips") / "alexnet.pth"
    torch.save({**weights, "classifier.1.weight": torch.zeros(1)}, path)
    return path


@pytest.fixture
def metric(alexnet, monkeypatch):
    digest = hashlib.sha256(alexnet.read_bytes()).hexdigest()
    monkeypatch.setattr(lpips, "ALEXNET", Published("alexnet.pth", digest, "here"))
    return LPIPS(alexnet)


def pictures(n, height=64, width=48):
    r = np.random.default_rng(0)
    coarse = r.integers(0, 256, (n, height // 8, width // 8, 3)).astype(np.uint8)
    return coarse.repeat(8, 1).repeat(8, 2)


def test_the_distance_is_the_papers(metric, weights):
    images = pictures(3)
    heads = torch.load(lpips._heads(), map_location="cpu", weights_only=True)
    numbers = {k: v.double().numpy() for k, v in weights.items()}
    head_numbers = {k: v.double().numpy() for k, v in heads.items()}
    expected = [lpips_loops.lpips(images[0], x, numbers, head_numbers) for x in images]
    found = metric.distance(images[[0, 0, 0]], images)
    # Sums of up to 3,456 float32 products per number, five layers deep.
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-9)
    assert found[0] == 0
    assert min(found[1:]) > 1e-3


def test_it_is_symmetric_and_a_row_depends_on_its_own_pair(metric):
    images = pictures(4)
    there, back = metric.distance(images[:2], images[2:]), metric.distance(images[2:], images[:2])
    assert there.tolist() == back.tolist()
    assert metric.distance(images[:1], images[2:3])[0] == there[0]


def test_diversity_is_the_mean_of_every_two_seeds(metric):
    images = pictures(4)
    pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    each = metric.distance(images[[a for a, _ in pairs]], images[[b for _, b in pairs]])
    found = metric.diversity([images, images[:2], images[:1], images[[1, 1, 1]]])
    assert found[0] == pytest.approx(each.mean(), rel=1e-12)
    assert found[1] == pytest.approx(each[0], rel=1e-12)
    assert np.isnan(found[2])
    assert found[3] == 0


def test_the_smallest_picture_works_and_a_smaller_one_is_refused(metric):
    side = lpips.SMALLEST
    fit = np.zeros((1, side, side, 3), np.uint8)
    assert metric.distance(fit, fit) == [0]
    with pytest.raises(ValueError, match=f"needs {side} pixels"):
        metric.distance(fit[:, 1:], fit[:, 1:])
    with pytest.raises(ValueError, match="one size"):
        metric.distance(fit, fit[:, 1:])


def test_the_published_files_are_checked(alexnet, tmp_path, monkeypatch):
    with pytest.raises(BadModel, match=r"published is 7be5be791159"):
        LPIPS(alexnet)
    # The heads inside torchmetrics are the published ones: no hash is patched here.
    assert hashlib.sha256(lpips._heads().read_bytes()).hexdigest() == lpips.HEADS.sha256
    monkeypatch.setattr(lpips, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"sidestep\[metrics\]"):
        lpips._heads()
