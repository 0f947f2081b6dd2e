"""Scores of pictures whose right answer is known."""

import numpy as np
import pytest

from sidestep.audit.records import Record
from sidestep.bench.demo import labelled
from sidestep.bench.score import Scorer
from sidestep.models.embedded import pictures
from sidestep.similarity.pixels import Pixels

CONCEPTS = ("fox", "lemon", "robot", "umbrella")


def drawn(drawings, concept, kind, draws):
    """Pictures of some drawings of a concept."""
    names = [(d, f"{kind}/{d.number:04d}/{i}") for d in drawings for i in range(draws)]
    return [pictures.Picture(n, kind, concept, concept, pictures.compose(d, n)) for d, n in names]


def trained(draws):
    """Background pictures of the four concepts."""
    return [r for c in CONCEPTS for r in drawn(pictures.split(c)[0], c, "background", draws)]


def held_out(draws):
    """Control pictures of the four concepts."""
    return [r for c in CONCEPTS for r in drawn([pictures.split(c)[1]], c, "control", draws)]


def record(i, prompt):
    """An unscored record."""
    return Record(
        rule="plain", method="constant", settings={}, before=None, kind="other", prompt=prompt,
        seed=i, draw=i, image="", transition=None, transition_time=None, opened_by="start", nfe=2,
        seconds=0.0, nearest=None, nearest_image=None, similarity={}, recipe=None, threshold=None,
        copy=None, agreement=None, spread=None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def scorer():
    """Calibrated on the held-out drawings of four concepts."""
    training = pictures.target_pictures() + trained(12)
    controls = labelled(held_out(30))  # one in a hundred false alarms takes at least 99 of them
    return Scorer(labelled(training), controls, labelled(trained(3)), [Pixels()])


def test_a_training_picture_is_a_copy_and_a_held_out_drawing_is_none(scorer):
    shown = [
        scorer.training.images[0],
        drawn([pictures.split("lemon")[1]], "lemon", "control", 1)[0].pixels,
    ]
    named = [scorer.training.concepts[0], "lemon"]
    copy, other = scorer.score([record(0, "x"), record(1, "y")], np.stack(shown), named)
    assert copy.copy
    assert copy.nearest == scorer.training.ids[0]
    # Embeddings are float32, so the correlation of a picture with itself is 1 to 7 digits.
    assert copy.similarity["pixels-32"] == pytest.approx(1, abs=1e-6)
    assert not other.copy
    assert other.similarity["pixels-32"] < other.threshold == copy.threshold


def test_agreement_tells_the_concepts_apart(scorer):
    rows = held_out(2)
    images = np.stack([r.pixels for r in rows])
    records = [record(i, r.concept) for i, r in enumerate(rows)]
    right = scorer.score(records, images, [r.concept for r in rows])
    assert np.mean([r.agreement == 1 for r in right]) >= 0.75
    after = CONCEPTS[1:] + CONCEPTS[:1]
    swapped = [after[CONCEPTS.index(r.concept)] for r in rows]
    wrong = scorer.score(records, images, swapped)
    assert np.mean([r.agreement == 1 for r in wrong]) <= 0.25


def test_the_spread_is_that_of_one_prompt(scorer):
    image = scorer.training.images[0]
    other = scorer.training.images[40]
    shown = np.stack([image, image, image, other])
    records = [record(i, prompt) for i, prompt in enumerate(["same", "same", "two", "two"])]
    same, _, two, _ = scorer.score(records, shown, ["fox"] * 4)
    assert same.spread == pytest.approx(0, abs=1e-6)
    assert two.spread > 0.1
    (alone,) = scorer.score(records[:1], shown[:1], ["fox"])
    assert alone.spread is None
