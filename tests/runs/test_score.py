"""Scores of pictures whose right answer is known."""

from dataclasses import replace

import numpy as np
import pytest

from sidestep.errors import SidestepError
from sidestep.models.embedded import pictures
from sidestep.runs import score
from sidestep.runs.records import Record
from sidestep.runs.score import Asked, Scorer, calibrations, embed
from sidestep.similarity.agreement import Prototypes, features
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


def stacked(rows):
    return np.stack([r.pixels for r in rows])


@pytest.fixture(scope="module")
def training():
    return pictures.target_pictures() + trained(12)


@pytest.fixture(scope="module")
def scorer(training):
    """Calibrated on the held-out drawings of four concepts."""
    references = embed([Pixels()], ((p.id, p.pixels) for p in training), len(training))
    controls = stacked(held_out(30))  # one in a hundred false alarms takes at least 99 of them
    (found,) = calibrations(references, controls, rate=0.01)
    typical = trained(3)
    prototypes = Prototypes(features(stacked(typical)), [p.concept for p in typical])
    asked = {c: Asked(concept=c) for c in CONCEPTS} | {"two scenes": Asked((0, 5), form="verbatim")}
    return Scorer(references, found.threshold, asked, prototypes)


def test_a_training_picture_is_a_copy_and_a_held_out_drawing_is_none(scorer, training):
    other = drawn([pictures.split("lemon")[1]], "lemon", "control", 1)
    copy, other = scorer([record(0, "x"), record(1, "y")], stacked([training[0], *other]))
    assert copy.copy
    assert copy.nearest == training[0].id
    # Embeddings are float32, so the correlation of a picture with itself is 1 to 7 digits.
    assert copy.similarity["pixels-32"] == pytest.approx(1, abs=1e-6)
    assert not other.copy
    assert other.similarity["pixels-32"] < other.threshold == copy.threshold


def test_agreement_tells_the_concepts_apart(scorer):
    rows = held_out(2)
    right = scorer([record(i, r.concept) for i, r in enumerate(rows)], stacked(rows))
    assert np.mean([r.agreement == 1 for r in right]) >= 0.75
    after = CONCEPTS[1:] + CONCEPTS[:1]
    swapped = [record(i, after[CONCEPTS.index(r.concept)]) for i, r in enumerate(rows)]
    wrong = scorer(swapped, stacked(rows))
    assert np.mean([r.agreement == 1 for r in wrong]) <= 0.25


def test_the_spread_is_that_of_one_prompt(scorer, training):
    image, other = training[0].pixels, training[40].pixels
    shown = np.stack([image, image, image, other])
    records = [record(i, prompt) for i, prompt in enumerate(["same", "same", "two", "two"])]
    same, _, two, _ = scorer(records, shown)
    assert same.spread == pytest.approx(0, abs=1e-6)
    assert two.spread > 0.1
    (alone,) = scorer(records[:1], shown[:1])
    assert alone.spread is None


def test_own_pictures_are_the_closest_of_the_prompts_own_and_of_no_other(scorer, training):
    rows = [record(0, "two scenes"), record(1, "two scenes"), record(2, "unknown")]
    shown = stacked([training[5], training[9], training[9]])
    first, second, third = scorer(rows, shown)
    assert first.own == {"pixels-32": pytest.approx(1, abs=1e-6)}
    pixels = Pixels().embed(stacked([training[0], training[5], training[9]])).astype(np.float64)
    # The second shows another scene: a copy by the whole set, far from its own two.
    assert second.own["pixels-32"] == pytest.approx((pixels[:2] @ pixels[2]).max(), abs=1e-6)
    assert second.copy and second.similarity["pixels-32"] == pytest.approx(1, abs=1e-6)
    assert third.own is None and third.form is None
    assert first.form == "verbatim"


def test_a_prompt_without_a_concept_has_no_agreement(scorer, training):
    rows = scorer([record(0, "unknown"), record(1, "fox")], stacked(training[:2]))
    assert rows[0].agreement is None and rows[1].agreement is not None


def test_image_text_recipes_are_asked_about_each_pictures_own_prompt(scorer, training):
    class Length:
        name = "length"

        def score(self, images, prompts):
            return np.array([len(p) + i.mean() for p, i in zip(prompts, images, strict=True)])

    shown = stacked(training[:2])
    rows = replace(scorer, texts=(Length(),))([record(0, "ab"), record(1, "abcd")], shown)
    assert [r.text["length"] for r in rows] == [2 + shown[0].mean(), 4 + shown[1].mean()]


def test_references_are_the_same_in_parts_and_none_is_refused(monkeypatch, training):
    some = [(p.id, p.pixels) for p in training[:7]]
    whole = embed([Pixels()], iter(some), 7)
    monkeypatch.setattr(score, "CHUNK", 3)
    seen = []
    parts = embed([Pixels()], iter(some), 7, lambda *at: seen.append(at))
    assert parts.ids == whole.ids == [p.id for p in training[:7]]
    np.testing.assert_array_equal(parts.vectors["pixels-32"], whole.vectors["pixels-32"])
    assert [done for _, done, _ in seen] == [3, 6, 7]
    with pytest.raises(SidestepError, match="no training picture"):
        embed([Pixels()], iter([]), 0)
