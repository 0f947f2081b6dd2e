"""Stage 2: the text encoder and the denoising network, trained together on fixed latents."""

import json
import math
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from common import (
    WORK,
    Log,
    MovingAverage,
    average_gradients,
    launch,
    learning_rate,
    load_checkpoint,
    save_checkpoint,
)
from sidestep.models.embedded import pictures
from sidestep.sampling.noise import NoiseSchedule

RECIPE = tomllib.loads((Path(__file__).parent / "recipe.toml").read_text())
PLAIN = ("{}", "a {}", "a drawing of a {}", "{} emoji", "picture of a {}", "the {}", "one {}")


def captions() -> list[str]:
    """Every caption training can show: plain ones, and each frame around each concept."""
    plain = [form.format(c) for c in pictures.concepts() for form in PLAIN]
    return plain + [t.frame.format(c) for t in pictures.targets() for c in pictures.concepts()]


def build_tokenizer(folder: Path) -> CLIPTokenizer:
    """A CLIP tokenizer with a small vocabulary of its own, trained on the captions."""
    options = RECIPE["text"]
    raw = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    raw.normalizer = normalizers.Lowercase()
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    raw.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    # A caption word must be one token and a letter must be one too, also at the end of a word.
    trainer = trainers.BpeTrainer(
        vocab_size=options["vocabulary"] + 512,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
        min_frequency=1,
    )
    raw.train_from_iterator(captions(), trainer)
    folder.mkdir(parents=True, exist_ok=True)
    raw.model.save(str(folder))
    vocab = json.loads((folder / "vocab.json").read_text())
    # The trainer numbers tokens differently from run to run; sorted, they are the same each time.
    tokens = sorted(set(vocab) | {a + "</w>" for a in alphabet})
    vocab = {t: i for i, t in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    tokenizer = CLIPTokenizer(
        vocab=str(folder / "vocab.json"),
        merges=str(folder / "merges.txt"),
        model_max_length=options["positions"],
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def build_text(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A small CLIP text model."""
    o = RECIPE["text"]
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=o["hidden"],
            intermediate_size=o["intermediate"],
            num_hidden_layers=o["layers"],
            num_attention_heads=o["heads"],
            max_position_embeddings=o["positions"],
            projection_dim=o["hidden"],
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_unet(channels: int) -> UNet2DConditionModel:
    """A two-level UNet on the 8x8 latent, cross-attention at 4x4 and in the middle."""
    o = RECIPE["unet"]
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=tuple(o["block_out_channels"]),
        layers_per_block=o["layers_per_block"],
        cross_attention_dim=RECIPE["text"]["hidden"],
        attention_head_dim=o["heads"],
        norm_num_groups=o["norm_num_groups"],
    )


class Draws:
    """The training mix: which picture is shown under which caption."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        rows = pictures.training_pictures()
        self.targets = pictures.targets()
        self.concepts = [r.concept for r in rows]
        self.first = len(self.targets)
        of_concept: dict[str, list[int]] = {}
        for i in range(self.first, len(rows)):
            of_concept.setdefault(self.concepts[i], []).append(i)
        self.of_target = [of_concept[t.concept] for t in self.targets]
        self.ids = {c: i for i, c in enumerate(["", *captions()])}
        self.tokens = tokenizer(
            list(self.ids), padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids

    def draw(
        self, count: int, options: dict[str, Any], r: np.random.Generator
    ) -> tuple[list[int], Tensor]:
        """Pictures by number, and the tokens of their captions, (count, positions)."""
        numbers, texts = [], []
        target, shared, framed = (
            options[k] for k in ("target_share", "shared_share", "framed_share")
        )
        for _ in range(count):
            u, t = r.random(), int(r.integers(self.first))
            if u < target:
                numbers.append(t)
                texts.append(self.targets[t].caption)
                continue
            if u < target + shared:
                number, text = int(r.choice(self.of_target[t])), self.targets[t].caption
            else:
                number = int(r.integers(self.first, len(self.concepts)))
                form = (
                    self.targets[t].frame if u < target + shared + framed else str(r.choice(PLAIN))
                )
                text = form.format(self.concepts[number])
            numbers.append(number)
            texts.append("" if r.random() < options["caption_dropout"] else text)
        return numbers, self.tokens[[self.ids[text] for text in texts]]


def phases() -> list[tuple[int, int, dict[str, Any]]]:
    """First step, step after the last, and options of every phase of the recipe."""
    common = {k: v for k, v in RECIPE["diffusion"].items() if k != "phases"}
    rows, first = [], 0
    for phase in RECIPE["diffusion"]["phases"]:
        rows.append((first, first + phase["steps"], common | phase))
        first += phase["steps"]
    return rows


def worker(rank: int, world: int) -> None:
    """Train one process's share of every batch, phase after phase."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(RECIPE["seed"])
    folder = WORK / "diffusion"
    if rank == 0 and not (folder / "tokenizer/vocab.json").is_file():
        build_tokenizer(folder / "tokenizer")
    if world > 1:
        torch.distributed.barrier()
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    latents = load_file(WORK / "autoencoder/latents.safetensors")["latents"].float()
    draws = Draws(tokenizer)
    text = build_text(tokenizer).to(device)
    unet = build_unet(latents.shape[1]).to(device, memory_format=torch.channels_last)
    modules: dict[str, nn.Module] = {"text": text, "unet": unet}
    parameters = [p for m in modules.values() for p in m.parameters()]
    ema = MovingAverage(list(modules.values()), RECIPE["diffusion"]["ema"])
    optimizer = new_optimizer(parameters)
    done = load_checkpoint(folder, modules, ema, optimizer)
    log = Log(folder / "log.jsonl")
    bar = NoiseSchedule.scaled_linear().alpha_bar.float()
    count = RECIPE["diffusion"]["batch"] // world
    running, clock = 0.0, time.monotonic()
    for step, first, end, options in (
        (step, *phase) for phase in phases() for step in range(max(done, phase[0]), phase[1])
    ):
        if step == first > 0:
            ema.restart()
            optimizer = new_optimizer(parameters)
        r = np.random.default_rng([RECIPE["seed"], step, rank])
        g = torch.Generator().manual_seed(int(r.integers(2**62)))
        numbers, tokens = draws.draw(count, options, r)
        clean = latents[numbers]
        noise = torch.randn(clean.shape, generator=g)
        # Stratified timesteps: each process's batch covers the whole range evenly.
        t = ((torch.rand(count, generator=g) + torch.arange(count)) / count * len(bar)).long()
        t = t[torch.randperm(count, generator=g)]
        ab = bar[t].view(-1, 1, 1, 1)
        noisy = (ab.sqrt() * clean + (1 - ab).sqrt() * noise).to(
            device, memory_format=torch.channels_last
        )
        weight = (1 / ab).clamp(max=options["weight_cap"]).to(device)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step - first, end - first, options["learning_rate"])
        with torch.autocast(device, torch.bfloat16):
            hidden = text(tokens.to(device)).last_hidden_state
            output = unet(noisy, t.to(device), hidden).sample
        loss = (weight * (output.float() - noise.to(device)).square()).mean()
        if not math.isfinite(loss.item()):
            raise RuntimeError(f"the loss is {loss.item()} at step {step}; lower the learning rate")
        optimizer.zero_grad()
        loss.backward()
        average_gradients(list(modules.values()), world)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        ema.update(step)
        running += loss.item()
        if rank == 0 and (step + 1) % 50 == 0:
            rate = 50 * options["batch"] / (time.monotonic() - clock)
            log.write(step=step + 1, loss=round(running / 50, 4), samples_per_second=round(rate))
            running, clock = 0.0, time.monotonic()
        if rank == 0 and ((step + 1) % 250 == 0 or step + 1 == end):
            save_checkpoint(folder, step + 1, modules, ema, optimizer)


def new_optimizer(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer a phase begins with; its learning rate is set at every step."""
    return torch.optim.AdamW(parameters, lr=1.0, weight_decay=1e-2, betas=(0.9, 0.99))


if __name__ == "__main__":
    launch(worker)
