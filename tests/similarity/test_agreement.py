"""Prompt agreement: the network's features and what whitening is for."""

import sys

import numpy as np
import pytest

from sidestep.errors import MissingExtra
from sidestep.models.embedded.pictures import compose, split
from sidestep.similarity import agreement
from sidestep.similarity.agreement import Prototypes, features


def test_loading_is_silent_because_stdout_belongs_to_the_command(capsys):
    agreement._network.cache_clear()
    features(np.zeros((1, 32, 32, 3), dtype=np.uint8), side=64)
    assert capsys.readouterr().out == ""


def test_features_do_not_depend_on_the_batch():
    r = np.random.default_rng(0)
    images = r.integers(0, 256, (5, 64, 64, 3)).astype(np.uint8)
    whole, parts = features(images, side=96), features(images, side=96, batch=2)
    assert (whole.shape, whole.dtype) == ((5, 1280), np.float32)
    # A convolution may sum in another order for another batch size: float32 rounding.
    assert whole == pytest.approx(parts, abs=1e-4)
    assert features(images[:0]).shape == (0, 1280)


def test_the_network_knows_a_drawing_it_never_saw():
    # Three concepts nothing like each other; prototypes from training drawings, queries held out.
    names = ["rabbit", "bus", "pizza"]
    known = [(n, d) for n in names for d in split(n)[0]]
    rows = features(np.stack([compose(d, f"test/{i}") for i, (_, d) in enumerate(known)]))
    held = features(np.stack([compose(split(n)[1], f"held/{n}") for n in names]))
    places = Prototypes(rows, [n for n, _ in known]).places(held, names)
    assert places.tolist() == [1, 1, 1]


def test_whitening_makes_what_varies_within_a_concept_count_less():
    r = np.random.default_rng(0)
    # Ten coordinates tell 20 concepts apart; ten louder ones are a ground that says nothing.
    centres = np.concatenate([r.normal(size=(20, 10)), np.zeros((20, 10))], axis=1)
    noise = np.repeat([0.3, 3.0], 10)

    def draw(each):
        rows = np.repeat(centres, each, 0) + noise * r.normal(size=(20 * each, 20))
        return rows.astype(np.float32), [f"{i:02d}" for i in range(20) for _ in range(each)]

    rows, names = draw(20)
    queries, truth = draw(10)
    prototypes = Prototypes(rows, names)
    whitened = (prototypes.places(queries, truth) == 1).mean()
    # The same prototypes compared by plain cosine, in a loop.
    means = [m - rows.mean(0) for m in rows.reshape(20, 20, 20).mean(1)]
    best = [
        max(range(20), key=lambda i: (q @ means[i]) / np.linalg.norm(means[i]))
        for q in queries - rows.mean(0)
    ]
    plain = np.mean([f"{b:02d}" == t for b, t in zip(best, truth, strict=True)])
    # Measured .98 against .30; the standard error of the difference is below .04.
    assert whitened > plain + 0.5


def test_equal_prototypes_tie_and_a_tie_counts_against():
    rows = np.array([[1, 0], [1, 0], [-1, 0.5], [-1, -0.5]], dtype=np.float32)
    prototypes = Prototypes(rows, ["a", "b", "c", "c"])
    assert prototypes.places(rows[:2], ["a", "b"]).tolist() == [2, 2]


def test_features_and_concepts_must_pair():
    with pytest.raises(ValueError, match="one concept for each"):
        Prototypes(np.eye(3, dtype=np.float32), ["a", "b"])


def test_pictures_in_floats_are_refused():
    with pytest.raises(ValueError, match="type uint8"):
        features(np.zeros((1, 64, 64, 3), dtype=np.float32))


def test_without_the_network_the_sentence_says_what_to_type(monkeypatch):
    agreement._network.cache_clear()
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(MissingExtra, match="pip install efficientnet-lite-pytorch"):
        features(np.zeros((1, 64, 64, 3), dtype=np.uint8))
