"""A LoRA on a Stable Diffusion with random weights: what is read, refused, hashed and left out."""

from dataclasses import replace
from pathlib import Path

import peft
import pytest
import torch
from bench import stand_ins
from diffusers import StableDiffusionPipeline
from diffusers.training_utils import _collate_lora_metadata
from diffusers.utils import convert_state_dict_to_diffusers
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from sidestep.adapters import lora
from sidestep.adapters.stable_diffusion import load
from sidestep.errors import BadModel, MissingExtra
from sidestep.guidance import Constant, Dynamic, Static
from sidestep.guidance.base import BOTH
from sidestep.mitigations import Start
from sidestep.mitigations.cross_attention import AttentionMasking
from sidestep.mitigations.guard import Guard
from sidestep.mitigations.prompt_optimization import PromptOptimization
from sidestep.rng import noise
from sidestep.sampling.mitigated import sample_mitigated

PROMPTS = ("a red fox", "a ship and a lamp")
UNET = ["to_q", "to_k", "to_v", "to_out.0", "conv1"]
TEXT = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1"]
RANK, ALPHA = 2, 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    stand_ins.model(path)
    return path


@pytest.fixture(scope="module")
def trained(folder):
    """A pipeline with a LoRA as a training script leaves it: random weights, dropout on."""
    torch.manual_seed(3)
    pipe = load(folder).pipe
    for part, layers in ((pipe.unet, UNET), (pipe.text_encoder, TEXT)):
        settings = {"r": RANK, "lora_alpha": ALPHA, "lora_dropout": 0.5}
        part.add_adapter(
            peft.LoraConfig(**settings, target_modules=layers, init_lora_weights=False)
        )
    return pipe


def saved(trained, out, parts=("unet", "text_encoder")):
    """What diffusers' training scripts write, settings of the LoRA included."""
    rows = {
        f"{n}_lora_layers": convert_state_dict_to_diffusers(
            get_peft_model_state_dict(getattr(trained, n))
        )
        for n in parts
    }
    about = _collate_lora_metadata({n: getattr(trained, n) for n in parts})
    StableDiffusionPipeline.save_lora_weights(out, **rows, **about)
    return out / lora.WEIGHTS


@pytest.fixture(scope="module")
def file(trained, tmp_path_factory):
    return saved(trained, tmp_path_factory.mktemp("lora"))


def kohya(file, out, alpha):
    """The same weights under the names of kohya's scripts."""
    rows = {}
    for name, tensor in load_file(file).items():
        part, _, rest = name.partition(".")
        layer, _, role = rest.partition(".lora")
        prefix = {"unet": "lora_unet_", "text_encoder": "lora_te_text_model_"}[part]
        base = prefix + layer.replace(".", "_")
        side = "lora_down" if "down" in role or "A.weight" in role else "lora_up"
        rows |= {f"{base}.{side}.weight": tensor, f"{base}.alpha": torch.tensor(float(alpha))}
    save_file(rows, out)
    return out


@pytest.fixture(scope="module")
def model(folder, file):
    return load(folder, lora=file)


def sampled(model, prompts=PROMPTS, rule=Constant(5.0), mitigations=(), steps=3):  # noqa: B008
    seeds = list(range(len(prompts)))
    start = Start(
        model.denoiser(prompts), noise(seeds, model.latent_shape),
        tuple(model.schedule.grid(steps)), tuple(seeds), tuple(prompts), model,
    )  # fmt: skip
    return sample_mitigated(list(mitigations), start, rule, model.schedule).latents


def predicted(model):
    """Both predictions of the network at one noise level."""
    x, level = noise([1, 2], model.latent_shape), model.schedule.grid(3)[0]
    with torch.no_grad():
        made = model.denoiser(PROMPTS)(x, level, BOTH)
    return torch.cat([made.uncond, made.cond])


def effective(trained):
    """Literally W + alpha / rank * B A for every layer of the UNet that has a LoRA, by name."""
    return {
        name: layer.base_layer.weight
        + ALPHA / RANK * (
            layer.lora_B["default"].weight.flatten(1) @ layer.lora_A["default"].weight.flatten(1)
        ).view_as(layer.base_layer.weight)
        for name, layer in trained.unet.named_modules() if hasattr(layer, "base_layer")
    }  # fmt: skip


def test_the_network_is_the_base_plus_the_scaled_product(folder, trained, tmp_path):
    model, by_hand = load(folder, lora=saved(trained, tmp_path, ["unet"])), load(folder)
    with torch.no_grad():
        for name, weight in effective(trained).items():
            by_hand.pipe.unet.get_submodule(name).weight.copy_(weight)
    assert (predicted(load(folder)) - predicted(model)).abs().max() > 0.01
    # float32: W x + B A x in two sums or one.
    torch.testing.assert_close(predicted(model), predicted(by_hand), atol=2e-5, rtol=1e-4)


def test_a_folder_and_its_file_are_one_model(folder, file, model):
    assert load(folder, lora=file.parent).fingerprint == model.fingerprint


def test_kohyas_names_give_the_same_network(folder, file, model, tmp_path):
    same = load(folder, lora=kohya(file, tmp_path / "kohya.safetensors", ALPHA))
    assert same.fingerprint == model.fingerprint
    assert torch.equal(predicted(same), predicted(model))
    weaker = load(folder, lora=kohya(file, tmp_path / "weaker.safetensors", 1))
    assert weaker.fingerprint != model.fingerprint


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_a_lora_of_one_part_alone_is_taken_in_silence(folder, trained, part, tmp_path, capfd):
    model = load(folder, lora=saved(trained, tmp_path, [part]))
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")
    assert not torch.equal(predicted(model), predicted(load(folder)))


def test_half_precision_is_computed_in_float32(folder, file, tmp_path):
    half = {name: tensor.half() for name, tensor in load_file(file).items()}
    save_file(half, tmp_path / "half.safetensors")
    save_file({n: t.float() for n, t in half.items()}, tmp_path / "wide.safetensors")
    models = [load(folder, lora=tmp_path / f"{n}.safetensors") for n in ("half", "wide")]
    assert torch.equal(*map(predicted, models))
    assert models[0].fingerprint == models[1].fingerprint


def test_dropout_of_the_training_is_off_and_calls_repeat(model):
    dropouts = [m for m in model.pipe.unet.modules() if isinstance(m, torch.nn.Dropout) and m.p]
    assert dropouts, "the file brings dropout"
    assert not any(m.training for m in model.pipe.unet.modules())
    assert not any(m.training for m in model.pipe.text_encoder.modules())
    assert torch.equal(sampled(model), sampled(model))


def test_the_fingerprint_covers_weights_and_scale(folder, file, model, tmp_path):
    other = load_file(file)
    name = sorted(other)[0]
    other[name] = other[name] + 1e-3
    save_file(other, tmp_path / "other.safetensors")
    # The plain file has no settings: diffusers takes alpha = rank.
    save_file(load_file(file), tmp_path / "plain.safetensors")
    fingerprints = [
        load(folder).fingerprint,
        model.fingerprint,
        load(folder, lora=file, lora_scale=0.5).fingerprint,
        load(folder, lora=file, lora_scale=-0.5).fingerprint,
        load(folder, lora=tmp_path / "other.safetensors").fingerprint,
        load(folder, lora=tmp_path / "plain.safetensors").fingerprint,
    ]
    assert len(set(fingerprints)) == 6
    assert load(folder, lora=file).fingerprint == model.fingerprint


def test_the_scale_weighs_what_the_lora_adds(folder, file):
    """A LoRA of one linear layer, so that its output is linear in the scale."""
    layers = {s: dict(load(folder, lora=file, lora_scale=s).pipe.unet.named_modules())
              for s in (-0.5, 0.0, 0.5, 1.0)}  # fmt: skip
    name = next(
        n for n, m in layers[1.0].items() if n.endswith("to_q") and hasattr(m, "base_layer")
    )
    x = torch.randn(3, layers[1.0][name].base_layer.in_features)
    away, none, half, full = (layers[s][name](x) for s in (-0.5, 0.0, 0.5, 1.0))
    assert torch.equal(none, layers[1.0][name].base_layer(x))
    # Half of a float32 sum, rounded once more.
    torch.testing.assert_close(half - none, (full - none) / 2, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(none - away, half - none, atol=1e-6, rtol=1e-4)


def test_without_it_the_model_is_the_base_to_the_bit(folder, model):
    base, with_it, before = load(folder), predicted(model), model.fingerprint
    with model.without_lora() as same:
        assert same.fingerprint == base.fingerprint
        assert torch.equal(predicted(same), predicted(base))
    assert torch.equal(predicted(model), with_it)
    assert model.fingerprint == before


def test_it_comes_back_after_a_failure_and_an_inner_block(model):
    before = model.fingerprint
    with pytest.raises(ZeroDivisionError), model.without_lora():
        with model.without_lora():
            base = model.fingerprint
        assert model.fingerprint == base != before, "an inner block ends only itself"
        raise ZeroDivisionError
    assert model.fingerprint == before


def test_a_model_without_one_stays_as_it_is(folder):
    model = load(folder)
    before = predicted(model)
    with model.without_lora() as same:
        assert torch.equal(predicted(same), before)


@pytest.mark.parametrize(
    "rule",
    [Constant(5.0), Static(time=0.5, before=0.0, after=5.0), Dynamic(before=-2.0, after=5.0)],
    ids=["constant", "static", "dynamic"],
)
def test_a_batch_equals_its_singles_under_every_rule(model, rule):
    both = sampled(model, rule=rule, steps=8)
    # Float32 kernels round differently for other batch sizes; guidance multiplies that.
    torch.testing.assert_close(both[:1], sampled(model, PROMPTS[:1], rule, steps=8),
                               atol=2e-4, rtol=2e-4)  # fmt: skip


@pytest.mark.parametrize(
    "mitigation",
    [AttentionMasking(), Guard(), PromptOptimization(target=0.0, steps=2)],
    ids=lambda m: m.name,
)
def test_a_mitigation_acts_on_the_network_with_the_lora(folder, model, mitigation):
    made = sampled(model, mitigations=[mitigation])
    assert made.isfinite().all()
    assert not torch.equal(made, sampled(model))
    assert not torch.equal(made, sampled(load(folder), mitigations=[mitigation]))
    alone = sampled(model, PROMPTS[:1], mitigations=[mitigation])
    torch.testing.assert_close(made[:1], alone, atol=2e-4, rtol=2e-4)  # as above
    assert all(p.grad is None for p in model.pipe.unet.parameters())


def test_edited_attention_runs_the_loras_layers(model):
    """An edit that changes nothing must give the prediction of the network as it is."""
    x, level = noise([1, 2], model.latent_shape), model.schedule.grid(3)[0]
    stock = model.denoiser(PROMPTS)
    edited = replace(stock, edits=(lambda logits, text, place: logits,))
    with torch.no_grad():
        a, b = (d(x, level, BOTH).cond for d in (stock, edited))
    # The fused kernel of the stock processor rounds otherwise.
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def cut_off(file: Path, out: Path):
    (out / "cut.safetensors").write_bytes(file.read_bytes()[:-100])
    return out / "cut.safetensors"


def no_tensors(file, out):
    save_file({}, out / "empty.safetensors")
    return out / "empty.safetensors"


def changed(change):
    def write(file, out):
        save_file(change(load_file(file)), out / "other.safetensors")
        return out / "other.safetensors"

    return write


def pickled(file, out):
    torch.save(load_file(file), out / "pytorch_lora_weights.bin")
    return out


def two(file, out):
    for name in ("a", "b"):
        (out / f"{name}.safetensors").write_bytes(file.read_bytes())
    return out


def first(rows, value):
    name = sorted(rows)[0]
    return rows | {name: value(rows[name])}


REFUSED = {
    "missing": (lambda f, out: out / "no.safetensors", r"there is no .*no\.safetensors"),
    "an empty folder": (lambda f, out: out, r"has no \.safetensors file"),
    "a pickle": (pickled, r"is a pickle, which may run code"),
    "two files": (two, r"holds 2 \.safetensors files \(a\.safetensors, b"),
    "another kind": (lambda f, out: Path(__file__), r"is no \.safetensors file"),
    "cut off": (cut_off, r"cut\.safetensors cannot be read .* cut off"),
    "no tensors": (no_tensors, r"is empty"),
    "not finite": (changed(lambda t: first(t, lambda x: x * float("nan"))), r"not finite"),
    "another width": (changed(lambda t: first(t, lambda x: x.repeat(2, 2))), "does not fit this"),
    "a layer too many": (
        changed(lambda t: t | {n.replace("unet.", "unet.more."): x.clone() for n, x in t.items()
                               if n.startswith("unet.mid_block")}),
        r"does not fit this model",
    ),
    "a second text encoder": (
        changed(lambda t: t | {n.replace("text_encoder.", "text_encoder_2."): x.clone()
                               for n, x in t.items() if n.startswith("text_encoder.")}),
        r"holds \d+ tensors, and the model's layers took \d+",
    ),
    "half a pair": (changed(lambda t: dict(list(t.items())[1:])), r"does not fit this model"),
    "another model's weights": (
        changed(lambda t: {f"text.{i}": x for i, x in enumerate(t.values())}), "does not fit this"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_is_no_lora_of_this_model_is_a_sentence(folder, file, case, tmp_path):
    make, words = REFUSED[case]
    with pytest.raises(BadModel, match=words) as error:
        load(folder, lora=make(file, tmp_path))
    assert "\n" not in str(error.value)


def test_without_peft_the_extra_is_named(folder, file, monkeypatch):
    monkeypatch.setattr(lora, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"peft.*sidestep\[lora\]"):
        load(folder, lora=file)


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_a_scale_that_is_not_finite_is_refused(folder, file, scale):
    with pytest.raises(ValueError, match="finite"):
        load(folder, lora=file, lora_scale=scale)


def test_a_scale_without_a_lora_is_refused(folder):
    with pytest.raises(ValueError, match="there is no LoRA"):
        load(folder, lora_scale=0.5)
