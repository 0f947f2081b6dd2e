"""A synthetic audit bundle: pictures that look alike, numbers that all differ."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from sidestep.audit.evidence import (
    FILE,
    Change,
    Evidence,
    Exhibit,
    Finding,
    Group,
    ModelFacts,
    Positive,
    PromptFacts,
    Recommendation,
    Results,
    Scope,
    SearchFacts,
    Share,
    TrainingFacts,
    TrainingPicture,
    Tried,
    Verdict,
)
from sidestep.runs.records import Record, to_lines

CAPTIONS = [
    "portrait of Dr Ilse Vogt in her laboratory, 1974",
    "the golden lion logo of Brauerei Haas on a blue shield",
    "a lighthouse at dusk, oil on canvas",
    "catalogue photograph of a red armchair, model Tessa",
    "x-ray of a left hand, case 20-1187",
    "view over the harbour of Korčula with two fishing boats",
]
HEX = "0123456789abcdef"


def sha(number: int) -> str:
    """A hash that no other number has."""
    r = np.random.default_rng(number)
    return "".join(r.choice(list(HEX), 64))


def draw(path: Path, number: int, *, noise: int, side: int = 256) -> None:
    """A picture of shapes; those of one number look alike, whatever the noise."""
    r, own = np.random.default_rng(number), np.random.default_rng(1000 * number + noise)
    image = Image.new("RGB", (side, side), tuple(r.integers(60, 220, 3).tolist()))
    pen = ImageDraw.Draw(image)
    for _ in range(7):
        x, y, w, h = (r.uniform(0, 0.8, 4) * side).tolist()
        shift = float(own.normal(0, 1.5 * (noise > 0)))
        colour = tuple(r.integers(0, 256, 3).tolist())
        shape = pen.ellipse if r.random() < 0.5 else pen.rectangle
        shape((x + shift, y, x + shift + w / 2 + 20, y + h / 2 + 20), fill=colour)
    if noise:
        image = image.filter(ImageFilter.GaussianBlur(1.2))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def finding(number: int, exhibits: int = 2) -> Finding:
    caption = CAPTIONS[number % len(CAPTIONS)] + ("" if number < len(CAPTIONS) else f" {number}")
    return Finding(
        training=TrainingPicture(
            id=sha(100 + number)[:24],
            path=f"scans/box-{number:02d}/{caption.split()[-1]}-{number}.jpg",
            sha256=sha(200 + number),
            caption=caption,
            times=[14, 1, 3, 22, 2, 9][number % 6],
            picture=f"pictures/training/{sha(100 + number)[:24]}.png",
        ),
        prompts=(Group(name=caption, share=Share.count(3 - number % 3, 4)),),
        similarity=0.987 - 0.013 * number,
        exhibits=tuple(
            Exhibit(
                prompt=caption,
                draw=k,
                seed=str(7_000_000_000_001 + 17 * number + k),
                similarity=0.987 - 0.013 * number - 0.004 * k,
                picture=f"pictures/generated/{10 * number + k:04d}.png",
                command=f"sidestep sample MODEL '{caption}' --rule constant --steps 50 --seed 11 "
                f"--draws {k + 1}",
                window="xywh=percent:25,0,50,50 of both" if number == 1 else None,
            )
            for k in range(exhibits)
        ),
        local=number == 1,
        confirmed=Share.count(0, 4),
    )


def evidence(findings: int = 6) -> Evidence:
    """An audit with findings, remedies and controls."""
    chosen = {"time": 0.55, "before": 0.0}
    return Evidence(
        scope=Scope(
            question="Does the fine-tuned model give pictures of its training set back?",
            context="weights published on a hub, open licence",
            auditor="M. Okafor, Institute for Model Assurance",
            created="2026-11-03T09:12:44+00:00",
            tool="sidestep 0.1.0",
            command="sidestep audit MODEL --images scans/ --controls held-out/ --draws 4",
            tested=("captions of the training pictures: 240, 4 pictures each", "no prompt at all"),
            not_tested=("membership inference", "attacks that optimise prompts"),
        ),
        verdict=Verdict(
            state="finding",
            reasons=(
                "41 of 960 pictures made for captions of the training set are copies (4.3 %, "
                "95 % interval 3.1 % to 5.7 %); 1 % are accepted.",
            ),
            settle=(),
            level=0.013,
            share=Share.count(41, 960),
        ),
        limits=(
            "This is evidence of resistance to the attacks that were run, no certificate.",
            "A copy is what passes the calibrated threshold of one similarity.",
        ),
        model=ModelFacts(
            name="harbour-diffusion-v2",
            sha256=sha(1),
            lora="harbour-style.safetensors",
            method="--rule constant",
            settings={"name": "constant", "scale": 7.25},
            steps=51,
            scale=7.25,
            sampler="DPM-Solver++ 2M",
            resolution=(512, 768),
            precision="float32",
        ),
        training=TrainingFacts(
            source="scans/ (folder)",
            pictures=12_345,
            readable=12_301,
            unreadable={"truncated file": 31, "more than 50 million pixels": 13},
            index_sha256=sha(2),
            duplicate_similarity=0.873,
            levels={"1": 11_800, "2": 420, "3-4": 61, "5-9": 17, "10+": 3},
        ),
        prompts=PromptFacts(
            source="captions beside the training pictures",
            sha256=sha(3),
            captions=11_902,
            sampled=240,
            chosen="240 of 11902: the most duplicated first, within a level by a hash",
            draws=4,
            seed=1_217,
            ordinary=24,
            ordinary_source="ordinary prompts that come with Sidestep",
            empty=16,
        ),
        search=SearchFacts(
            recipe="sscd-disc-mixup-288",
            fingerprint=sha(4),
            side=288,
            exact=True,
            calibration={
                "recipe": "sscd-disc-mixup-288",
                "threshold": 0.6123,
                "rate": 0.0107,
                "controls": 1_519,
                "rank": 15,
                "highest": 0.6618,
                "median": 0.3141,
                "fingerprint": sha(4),
            },
            controls=1_519,
            controls_source="held-out/ (folder)",
            positives=(
                Positive(edit="the model's own decoder", found=Share.count(199, 200)),
                Positive(edit="mirrored", found=Share.count(163, 200)),
                Positive(edit="cropped to 70 %", found=Share.count(186, 200)),
            ),
            negative=Share.count(3, 960),
        ),
        results=Results(
            kinds=(
                Group(name="captions of the training set", share=Share.count(41, 960)),
                Group(name="ordinary prompts", share=Share.count(0, 24)),
                Group(name="no prompt", share=Share.count(1, 16)),
            ),
            prompts=tuple(
                Group(name=finding(i).training.caption or "", share=Share.count(4 - i % 4, 4))
                for i in range(findings)
            ),
            draws=tuple(Group(name=str(i), share=Share.count(9 + i, 240)) for i in range(4)),
            levels=(
                Group(name="1", share=Share.count(2, 700)),
                Group(name="2", share=Share.count(5, 150)),
                Group(name="3-4", share=Share.count(11, 72)),
                Group(name="10+", share=Share.count(23, 38)),
            ),
            similarity_median=0.4217,
            similarity_p95=0.6934,
            control_median=0.3142, local=Share.count(3, 211),
        ),
        findings=tuple(finding(i) for i in range(findings)),
        tried=(
            Tried(
                label="static 0.55", name="static", settings=chosen,
                findings=Share.count(1, 48), p_value=3.1e-11,
                agreement=Change(mean=-0.021, low=-0.061, high=0.017),
                ordinary=Change(mean=-0.004, low=-0.035, high=0.027),
                change=0.1471, nfe=77.5, backward=0.0, enough=True, confirmed=Share.count(1, 97),
            ),
            Tried(
                label="dynamic, opposite", name="dynamic", settings={"before": -2.0, "wait": 5},
                findings=Share.count(0, 48), p_value=2.3e-12,
                agreement=Change(mean=-0.183, low=-0.247, high=-0.119),
                ordinary=Change(mean=-0.142, low=-0.201, high=-0.083),
                change=0.2262, nfe=100.0, backward=0.0, enough=True,
            ),
            Tried(
                label="prompt perturbation", name="random-words", settings={"words": 3},
                findings=Share.count(29, 48), p_value=0.0129,
                agreement=Change(mean=-0.055, low=-0.101, high=-0.009), nfe=101.0, backward=2.5,
            ),
            Tried(
                label="cross-attention mask", name="masked-attention", settings={"layers": 4},
                unfit="the model's attention is not of the kind that this mitigation edits",
            ),
        ),
        recommendation=Recommendation(
            label="static 0.55", name="static", settings=chosen,
            why="the lowest price among those that were enough: agreement on findings -0.02",
            seed=1_218, before=Share.count(61, 79), confirmed=Share.count(1, 97), holds=True,
            python="import sidestep\n\nwith sidestep.guide(pipe, sidestep.Static(time=0.55)):\n"
            "    images = pipe(...)",
            command="sidestep audit MODEL --images scans/ --rule static:time=0.55,before=0.0",
        ),
        agreement="agreement_r5",
        records={"observed": "records/observed.jsonl", "tried": "records/tried.jsonl"},
        versions={"sidestep": "0.1.0", "torch": "2.13.0", "python": "3.12.11"},
    )  # fmt: skip


def record(one: Exhibit, nearest: str, number: int) -> Record:
    return Record(
        rule="as audited", method="constant", settings={"after": 7.25}, before=None, kind="target",
        prompt=one.prompt, seed=int(one.seed or 0), draw=one.draw,
        image=f"images/as-audited/{number:04d}.png", transition=0, transition_time=1.0,
        opened_by="start", nfe=100, seconds=0.0, nearest=nearest, nearest_image=None,
        similarity={"sscd-disc-mixup-288": one.similarity}, recipe="sscd-disc-mixup-288",
        threshold=0.6123, copy=True, agreement=None, spread=None,
    )  # fmt: skip


def write(folder: Path, made: Evidence) -> Path:
    """The bundle of an evidence: audit.json, pictures and records."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, one in enumerate(made.findings):
        if one.training.picture:
            draw(folder / one.training.picture, number, noise=0)
        for k, exhibit in enumerate(one.exhibits):
            draw(folder / str(exhibit.picture), number, noise=k + 1)
            rows.append(record(exhibit, one.training.id, 10 * number + k))
    for name in made.records.values():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(to_lines(rows), encoding="utf-8")
    (folder / FILE).write_bytes(made.to_bytes())
    return folder


def changed(made: Evidence, **parts: dict[str, Any]) -> Evidence:
    """The evidence with fields of some parts replaced: changed(e, scope={"auditor": "x"})."""
    replace = msgspec.structs.replace
    return replace(made, **{k: replace(getattr(made, k), **v) for k, v in parts.items()})
