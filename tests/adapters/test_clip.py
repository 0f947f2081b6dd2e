"""CLIP score of a tiny random CLIP against a direct computation, and what it says offline."""

import numpy as np
import pytest
import torch
from adapters import tiny_clip
from PIL import Image

from sidestep.adapters.clip import BACKBONES, CLIPScore
from sidestep.errors import BadModel

PROMPTS = ["a fox", "a ship on the sea", "a fox"]
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_clip.save(tmp_path_factory.mktemp("clip") / "tiny-clip")


@pytest.fixture(scope="module")
def metric(folder):
    return CLIPScore(folder, batch=2)


def pictures(n=3):
    return np.random.default_rng(0).integers(0, 256, (n, 48, 48, 3)).astype(np.uint8)


def by_hand(folder, image, prompt):
    """One picture, one prompt: PIL, the model's own logits, and its temperature taken out."""
    from transformers import AutoTokenizer, CLIPModel

    model = CLIPModel.from_pretrained(folder).eval()
    small = Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC)
    pixels = (np.asarray(small) / 255 - np.array(MEAN)) / np.array(STD)
    tokens = AutoTokenizer.from_pretrained(folder)(prompt, return_tensors="pt")
    with torch.no_grad():
        logits = model(
            input_ids=tokens.input_ids,
            pixel_values=torch.from_numpy(pixels.transpose(2, 0, 1)[None]).float(),
        ).logits_per_image
        return float(logits / model.logit_scale.exp())


def test_the_score_is_the_cosine_of_picture_and_prompt(metric, folder):
    images = pictures()
    found = metric.score(images, PROMPTS)
    expected = [by_hand(folder, i, p) for i, p in zip(images, PROMPTS, strict=True)]
    # float32 layers; padding to the longest prompt of a batch changes the order of sums.
    assert found == pytest.approx(expected, abs=1e-5)
    assert len(set(np.round(found, 4))) == 3
    assert (np.abs(found) <= 1).all()


def test_the_prompt_matters_and_a_batch_is_its_singles(metric):
    images = pictures()
    whole = metric.score(images, PROMPTS)
    alone = [metric.score(images[i : i + 1], PROMPTS[i : i + 1])[0] for i in range(3)]
    assert whole == pytest.approx(alone, abs=1e-5)  # float32, other batch sizes
    assert abs(metric.score(images[:1], [PROMPTS[1]])[0] - whole[0]) > 1e-4
    assert metric.score(images[:0], []).shape == (0,)


def test_the_name_carries_the_backbone_and_the_fingerprint_its_weights(metric, folder, tmp_path):
    from transformers import CLIPModel

    assert metric.name == "clip-score:tiny-clip"
    assert CLIPScore(folder).fingerprint == metric.fingerprint
    other = tmp_path / "other"
    for file in folder.iterdir():
        (other / file.name).parent.mkdir(exist_ok=True)
        (other / file.name).write_bytes(file.read_bytes())
    model = CLIPModel.from_pretrained(folder)
    with torch.no_grad():
        model.visual_projection.weight[0, 0] += 1e-3
    model.save_pretrained(other)
    assert CLIPScore(other).fingerprint != metric.fingerprint


def test_a_long_prompt_is_cut_to_the_context(metric):
    long = "a fox " * 40
    assert metric.score(pictures(1), [long]) == pytest.approx(
        metric.score(pictures(1), [long + "and a ship"]), abs=1e-6
    )


def test_what_is_not_there_is_said_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        BadModel, match=r"nobody/nothing cannot be loaded as a CLIP .*give a folder"
    ):
        CLIPScore("nobody/nothing")
    with pytest.raises(BadModel, match="give a folder"):
        CLIPScore(tmp_path)


def test_bad_input_is_refused(metric, folder):
    with pytest.raises(ValueError, match="one prompt for each picture"):
        metric.score(pictures(2), ["a fox"])
    with pytest.raises(ValueError, match="type uint8"):
        metric.score(pictures(1).astype(np.float32), ["a fox"])
    with pytest.raises(ValueError, match="at least 1"):
        CLIPScore(folder, batch=0)


def test_the_published_backbones_are_names_of_the_hub():
    assert all(name.count("/") == 1 for name in BACKBONES.values())
