"""Every example runs as a script, and the loops of the examples equal the library's own."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import sidestep
from sidestep.guidance import Prediction
from sidestep.models.embedded import folder
from sidestep.sampling import DDIM, NoiseSchedule

EXAMPLES = Path(__file__).parents[1] / "examples"
FILES = sorted(EXAMPLES.glob("*.py"))
WITH_ARGUMENTS = {"finetune_lora", "twenty_pictures"}  # test_finetune_example.py runs these
RULES = [
    sidestep.Constant(7.5),
    sidestep.Static(time=0.7, before=0.0, after=7.5),
    sidestep.Static(time=0.7, before=1.0, after=7.5),
    sidestep.Dynamic(before=-2.0, after=7.5),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "file", [f for f in FILES if f.stem not in WITH_ARGUMENTS], ids=lambda f: f.stem
)
def test_an_example_runs_as_a_script(file):
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def blocks(page):
    """The Python blocks of a page, on the embedded model."""
    text = (EXAMPLES.parent / page).read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        yield block.replace("path/to/a/StableDiffusionPipeline/folder", str(folder()))


@pytest.mark.slow
def test_the_readmes_examples_run_on_the_embedded_model(capsys):
    for block in blocks("README.md"):
        names = {}
        exec(block, names)
        made = names["images"] if "images" in names else names["pictures"]
        assert len(made) == len(names["prompts"])
        assert "tensor([" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("page", ["docs/mitigations.md"])
def test_a_pages_examples_run(page):
    found = list(blocks(page))
    assert found
    for block in found:
        exec(block, {})


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_an_example_is_named_in_the_documents(file):
    texts = [EXAMPLES.parent / "README.md", *EXAMPLES.parent.glob("docs/*.md")]
    assert any(f"examples/{file.name}" in text.read_text(encoding="utf-8") for text in texts)


class Network:
    """An example's network as a denoiser of the library."""

    def __init__(self, predict):
        self.predict = predict

    def __call__(self, x, level, needs):
        uncond, cond = self.predict(x, level.timestep)
        if not needs.cond:
            return Prediction(uncond, uncond, level.time)
        return Prediction(uncond if needs.uncond else cond, cond, level.time)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_the_loop_of_ones_own_equals_the_librarys(rule):
    example = runpy.run_path(str(EXAMPLES / "own_loop.py"))
    torch.manual_seed(1)
    x, prompt = torch.randn(4, 4).double(), torch.randn(4, 4).double()
    made, on = example["sample"](rule, x, prompt, 30)
    network = example["network"]
    theirs = sidestep.sample(
        Network(lambda x, t: (network(x, t, None), network(x, t, prompt))),
        x,
        rule,
        NoiseSchedule(example["ALPHA_BAR"]),
        steps=30,
        solver=DDIM(),
    )
    # float64; the two write a step of DDIM with square roots in another order.
    torch.testing.assert_close(made, theirs.latents, rtol=1e-10, atol=1e-10)
    assert (~on).sum(dim=0).tolist() == theirs.trace.transition.tolist()


def test_the_loop_over_arrays_equals_the_librarys():
    example = runpy.run_path(str(EXAMPLES / "onnx_loop.py"))
    x, text = np.random.default_rng(1).standard_normal((2, 3, 4)).astype(np.float32)
    rule = sidestep.Dynamic(before=-2.0, after=7.5)
    made = example["sample"](rule, x, text, np.zeros_like(text), 30)
    session = example["Session"]()

    def predict(x, t):
        feeds = {"sample": x.numpy(), "timestep": np.full(3, t, np.float32)}
        return [
            torch.from_numpy(session.run(None, feeds | {"text": words})[0])
            for words in (np.zeros_like(text), text)
        ]

    first = torch.from_numpy(x)
    theirs = sidestep.sample(
        Network(predict), first, rule, example["SCHEDULE"], steps=30, solver=DDIM()
    )
    # float32 in both, the same operations in the same order but for the last rounding.
    np.testing.assert_allclose(made, theirs.latents.numpy(), rtol=1e-5, atol=1e-5)
