"""sidestep.guide beside what people also use: offloading, slicing, LoRA, caches."""

import pytest
import torch
from adapters.families import FAMILIES
from adapters.tiny_sd import build, call

import sidestep
from sidestep.adapters.pipeline.hooks import _Forward

STATIC = sidestep.Static(0.5)
BY_NAME = {family.name: family for family in FAMILIES}
# Another batch size rounds differently (float32, four to six steps of a tiny network).
CLOSE = {"rtol": 0, "atol": 1e-4}


def guided(run, pipe, rule=STATIC, **options):
    """What a call gives under a rule, and the trace."""
    with sidestep.guide(pipe, rule, **options) as handle:
        return run(), handle.trace


class Wan:
    """Calls its network twice a step, so that whole calls are left out."""

    def __init__(self):
        self.pipe = BY_NAME["wan"].build()
        self.network = self.pipe.transformer

    def __call__(self):
        return BY_NAME["wan"].call(self.pipe, [0, 1], steps=6, scale=4.0)


class SD:
    """Leaves rows out."""

    def __init__(self):
        self.pipe = build()
        self.network = self.pipe.unet

    def __call__(self):
        return call(self.pipe, steps=6)


def to_and_fro(network):
    """What sequential offload does: each part has weights only while it runs.

    accelerate's own hook refuses to move weights from the CPU to the CPU.
    """
    from accelerate.hooks import ModelHook, add_hook_to_module

    class Shuttle(ModelHook):
        def init_hook(self, module):
            self.weights = {n: p.data for n, p in module.named_parameters(recurse=False)}
            return self.post_forward(module, module)

        def pre_forward(self, module, *args, **kwargs):
            for name, parameter in module.named_parameters(recurse=False):
                parameter.data = self.weights[name]
            return args, kwargs

        def post_forward(self, module, output):
            for name, parameter in module.named_parameters(recurse=False):
                parameter.data = torch.full_like(self.weights[name], torch.nan)
            return output

    for part in network.modules():
        if part is network or list(part.parameters(recurse=False)):
            add_hook_to_module(part, Shuttle(), append=True)


OFFLOAD = {
    "model": lambda made: made.pipe.enable_model_cpu_offload(device="cpu"),
    "sequential": lambda made: to_and_fro(made.network),
    "group": lambda made: made.network.enable_group_offload(
        torch.device("cpu"), torch.device("cpu"), offload_type="leaf_level"
    ),
}


@pytest.mark.parametrize("late", [False, True], ids=["offload, attach", "attach, offload"])
@pytest.mark.parametrize("way", OFFLOAD)
@pytest.mark.parametrize("kind", [SD, Wan])
def test_offload(kind, way, late):
    made = kind()
    stock = made()
    expected, trace = guided(made, made.pipe)
    if not late:
        OFFLOAD[way](made)
    with sidestep.guide(made.pipe, STATIC) as run:
        if late:
            made()
            OFFLOAD[way](made)
        for _ in range(3):  # model offload takes its hooks off and on after every call
            assert torch.equal(made(), expected)
            assert run.trace.nfe.tolist() == trace.nfe.tolist()
    assert torch.equal(made(), stock)
    assert not made.network._forward_hooks and not made.network._forward_pre_hooks
    assert not any(isinstance(value, _Forward) for value in vars(made.network).values())


def lora(pipe):
    """A LoRA with random weights on every attention of the network."""
    peft = pytest.importorskip("peft")
    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    pipe.unet.add_adapter(
        peft.LoraConfig(r=2, lora_alpha=2, target_modules=targets, init_lora_weights=False)
    )


def load_lora(pipe):
    """The same from a file's contents, as load_lora_weights gets them."""
    pytest.importorskip("peft")
    other = build()
    lora(other)
    from peft.utils import get_peft_model_state_dict

    state = {f"unet.{k}": v for k, v in get_peft_model_state_dict(other.unet).items()}
    pipe.load_lora_weights(state)


FEATURES = {
    "attention slicing": lambda pipe: pipe.enable_attention_slicing(1),
    "freeu": lambda pipe: pipe.enable_freeu(s1=0.9, s2=0.2, b1=1.4, b2=1.6),
    "fused qkv": lambda pipe: pipe.fuse_qkv_projections(vae=False),
    "lora": lora,
    "loaded lora": load_lora,
    "fused lora": lambda pipe: (load_lora(pipe), pipe.fuse_lora()),
    "channels last": lambda pipe: pipe.unet.to(memory_format=torch.channels_last),
    "layerwise casting": lambda pipe: pipe.unet.enable_layerwise_casting(
        storage_dtype=torch.bfloat16, compute_dtype=torch.float32
    ),
}


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", FEATURES)
def test_what_changes_the_network(name, late):
    pipe = build()
    if not late:
        torch.manual_seed(2)
        FEATURES[name](pipe)
        stock = call(pipe)
        assert torch.equal(guided(lambda: call(pipe), pipe, sidestep.Static(1.0))[0], stock)
    with sidestep.guide(pipe, STATIC) as run:
        if late:
            torch.manual_seed(2)
            FEATURES[name](pipe)
        held = call(pipe)
    assert run.trace.cost == 0.75, "rows are still left out"
    full, trace = guided(lambda: call(pipe), pipe, skip=False)
    assert trace.cost == 1
    torch.testing.assert_close(held, full, **CLOSE)
    never, _ = guided(lambda: call(pipe), pipe, sidestep.Constant(0.0))
    torch.testing.assert_close(never, unconditional(pipe), **CLOSE)
    assert not torch.equal(call(pipe), held)


def unconditional(pipe, **more):
    rows = [torch.Generator().manual_seed(i) for i in range(2)]
    prompts = -torch.stack([torch.randn(3, 8, generator=g) for g in rows])
    rows = [torch.Generator().manual_seed(i) for i in range(2)]
    for g in rows:
        torch.randn(3, 8, generator=g)
    return call(pipe, prompt_embeds=prompts, negative_prompt_embeds=prompts, generator=rows, **more)


def test_the_decoder_sliced_and_tiled():
    pipe = build()
    plain, _ = guided(lambda: call(pipe, output_type="pt"), pipe)
    pipe.vae.enable_slicing()
    pipe.vae.enable_tiling()
    sliced, trace = guided(lambda: call(pipe, output_type="pt"), pipe)
    torch.testing.assert_close(sliced, plain, **CLOSE)
    assert trace.cost == 0.75


def first_block(network):
    import diffusers

    network.enable_cache(diffusers.FirstBlockCacheConfig(threshold=0.05))


def broadcast():
    import diffusers

    return diffusers.PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2,
        spatial_attention_timestep_skip_range=(100, 900),
        current_timestep_callback=lambda: 500,
    )


def pyramid(network):
    network.enable_cache(broadcast())


def pyramid_by_its_function(network):
    """The network does not know that it has a cache."""
    from diffusers.hooks import apply_pyramid_attention_broadcast

    apply_pyramid_attention_broadcast(network, broadcast())


def taylor(network):
    import diffusers

    network.enable_cache(diffusers.TaylorSeerCacheConfig(cache_interval=2))


@pytest.mark.parametrize("cache", [first_block, pyramid, pyramid_by_its_function, taylor])
def test_with_a_cache_of_diffusers_every_row_is_computed(cache):
    from benchmarks.pipelines import wan

    pipe, inputs = wan()
    pipe.set_progress_bar_config(disable=True)

    def run():
        return pipe(
            **inputs, num_inference_steps=6, guidance_scale=4.0, output_type="latent",
            generator=torch.Generator().manual_seed(0),
        )[0]  # fmt: skip

    assert guided(run, pipe)[1].cost < 1
    cache(pipe.transformer)
    stock = run()
    held, trace = guided(run, pipe)
    assert trace.cost == 1
    assert torch.equal(guided(run, pipe, sidestep.Static(1.0))[0], stock)
    assert torch.equal(guided(run, pipe)[0], held), "a cache remembers nothing of the run before"
    if pipe.transformer.is_cache_enabled:
        pipe.transformer.disable_cache()
        assert guided(run, pipe)[1].cost < 1


def test_with_a_cache_over_both_predictions_every_row_is_computed():
    family = BY_NAME["cogvideox"]
    pipe = family.build()

    def run():
        return family.call(pipe, [0, 1], steps=6, scale=4.0)

    assert guided(run, pipe)[1].cost < 1
    pyramid(pipe.transformer)
    stock = run()
    assert guided(run, pipe)[1].cost == 1
    assert torch.equal(guided(run, pipe, sidestep.Static(1.0))[0], stock)
