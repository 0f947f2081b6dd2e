"""The data of each scenario in small: the published formats, tiny models with random weights."""

import csv
import json

import msgspec
import numpy as np
import torch
from adapters import tiny_clip, tiny_sd
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from sidestep.bench.loading import load
from sidestep.models import embedded

SIDE = 16


def picture(path, seed):
    """A picture of its own, not square; its suffix says the kind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 28, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def model(folder, prediction_type="epsilon"):
    """A Stable Diffusion folder whose pictures have as many pixels as its latents."""
    pipe = tiny_sd.build()
    tokenizer = CLIPTokenizer.from_pretrained(embedded.folder() / "tokenizer")
    settings = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    pipe.register_modules(text_encoder=CLIPTextModel(settings).eval(), tokenizer=tokenizer)
    pipe.scheduler.register_to_config(prediction_type=prediction_type)
    pipe.save_pretrained(folder)


def s1(data):
    """The captions' keys carry folders of another machine; two pictures share a caption."""
    model(data / "sd-21-finetuned_LAION10K", "v_prediction")
    captions = {}
    for i, words in enumerate(["a fox", "a lemon", "a robot", "a fox"]):
        name = f"images_large/part_{i % 2}/{i:05d}.jpg"
        picture(data / "laion_10k_random" / name, i)
        captions[f"./data/laion_10k_random/{name}"] = [words, f"another caption {i}"]
    (data / "laion_10k_random/laion_combined_captions.json").write_text(json.dumps(captions))


def s2(data):
    """Ten class folders."""
    model(data / "sd-21-finetuned_imagenette", "v_prediction")
    for i, folder in enumerate(load("s2").prompts.names):
        for j in range(2):
            picture(data / f"imagenette2/train/{folder}/{folder}_{j}.JPEG", 2 * i + j)


def s3(data, pairs=3):
    """Pairs of text and picture, and a UNet of its own."""
    model(data / "stable-diffusion-v1-4")
    tiny_sd.unet(seed=5).save_pretrained(data / "checkpoint-20000/unet")
    for i in range(pairs):
        picture(data / f"memorized_images/{i:03d}.jpg", i)
        (data / f"memorized_images/{i:03d}.txt").write_text(f"a drawing of a robot {i}\n")


def s4(data):
    """Three prompts: with two references, with one, with none; the last is in no list of types."""
    model(data / "stable-diffusion-v1-4")
    rows = [('a fox, said "Lifted Up"', 111), ("a café; a lemon", 222), ("=a robot", 333)]
    with (data / "sdv1_500_memorized.jsonl").open("w") as file:
        for caption, index in rows:
            file.write(json.dumps({"caption": caption, "index": index, "url": "unused"}) + "\n")
    for i, name in enumerate(["111/0.png", "111/1.png", "222/0.png"]):
        picture(data / "gt_images" / name, i)
    with (data / "memorized_laion_prompts.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, delimiter=";")
        table.writerow(["", "Caption", "URL", "type", "mean_sscd", "max_sscd", "Index"])
        table.writerow([0, rows[0][0], "unused", "TM", 0.1, 0.2, 111])
        table.writerow([1, rows[1][0], "unused", "VM", 0.8, 0.9, 222])


class Descriptors(torch.nn.Module):
    """In the place of SSCD's network: averages of a grid, mixed at random."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("mix", torch.randn(48, 1024, generator=generator))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(x, (4, 4)).flatten(1) @ self.mix


def measures(name, data):
    """The weights that the scenario measures with."""
    metric = load(name).metric
    torch.jit.script(Descriptors()).save(str(data / metric.decides.path))
    for one in metric.text:
        tiny_clip.save(data / one.path)


MAKE = {"s1": s1, "s2": s2, "s3": s3, "s4": s4}


def short(name, count=None):
    """The scenario of the package, for small pictures and few steps."""
    scenario = load(name)
    replace = msgspec.structs.replace
    prompts = replace(scenario.prompts, count=count)
    if prompts.choose is not None:
        prompts = replace(prompts, choose=replace(prompts.choose, count=12))
    return replace(
        scenario,
        prompts=prompts,
        sampling=replace(scenario.sampling, resolution=SIDE, steps=3),
        methods=tuple(_quick(how) for how in scenario.methods),
    )


def _quick(how):
    """Descents that random weights never finish would take all the time there is."""
    if how.name not in ("per-sample-noise", "sharpness-aware"):
        return how
    few = {"limit": 1} | ({"candidates": 2} if how.name == "sharpness-aware" else {})
    return msgspec.structs.replace(how, strengths=tuple(s | few for s in how.strengths))


def small(name, count=None):
    """The same with pixels as its only measure, which needs no weights."""
    scenario = short(name, count)
    metric, replace = scenario.metric, msgspec.structs.replace
    own = {metric.decides.path, *(one.path for one in metric.text)}
    return replace(
        scenario,
        metric=replace(metric, decides="pixels", beside=(), text=()),
        needs=tuple(need for need in scenario.needs if need.path not in own),
    )
