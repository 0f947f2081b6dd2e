"""Small LoRA trainings of other families, as diffusers' scripts have them, to be watched."""

import torch
from adapters.tiny_pipelines import BUILDERS, SIDE, WIDTH
from diffusers import DDPMScheduler
from peft import LoraConfig
from reference import watched

NAMES = ("sdxl", "sd3", "flux")


def network_of(pipe):
    found = pipe.unet if hasattr(pipe, "unet") else pipe.transformer
    return getattr(found, "_orig_mod", found)


def built(name, half=None):
    """A pipeline whose network has a LoRA in training; the rest may be in half precision."""
    pipe = BUILDERS[name]()
    pipe.set_progress_bar_config(desc="mine", disable=True)
    if name == "sdxl":  # as its scripts have it: the training's own scheduler
        pipe.scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
    network = network_of(pipe)
    network.requires_grad_(False)
    torch.manual_seed(3)
    network.add_adapter(
        LoraConfig(
            r=2, target_modules=["to_q", "to_v"], lora_dropout=0.5, init_lora_weights="gaussian"
        )
    )
    network.train()
    network.enable_gradient_checkpointing()
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module) and part is not network:
            part.requires_grad_(False)
            if half:
                part.to(half)
    # A training embeds its captions too, and transformers puts hooks of its own on an encoder then.
    others = {"prompt_2": None, "prompt_3": None} if name == "sd3" else {"prompt_2": None}
    pipe.encode_prompt("a fox", **others)
    return pipe


def inputs(name, pipe):
    """What the network is asked in a step, from global random numbers."""
    t = torch.randint(0, 1000, (2,))
    if name == "sdxl":
        config = pipe.unet.config
        added = {"text_embeds": torch.randn(2, 8), "time_ids": torch.full((2, 6), 64.0)}
        side, width = config.sample_size, config.cross_attention_dim
        return {
            "sample": torch.randn(2, config.in_channels, side, side), "timestep": t,
            "encoder_hidden_states": torch.randn(2, 3, width), "added_cond_kwargs": added,
        }  # fmt: skip
    if name == "sd3":
        return {
            "hidden_states": torch.randn(2, 4, SIDE, SIDE), "timestep": t,
            "encoder_hidden_states": torch.randn(2, 3, 2 * WIDTH),
            "pooled_projections": torch.randn(2, 16),
        }  # fmt: skip
    return {
        "hidden_states": torch.randn(2, 16, 4), "timestep": t / 1000,
        "encoder_hidden_states": torch.randn(2, 3, WIDTH),
        "pooled_projections": torch.randn(2, WIDTH),
        "img_ids": torch.zeros(16, 3), "txt_ids": torch.zeros(3, 3),
    }  # fmt: skip


def state(pipe):
    """All of a pipeline and its networks that drawing could change."""
    scheduler = {k: repr(v) for k, v in vars(pipe.scheduler).items()}
    own = {k: v for k, v in vars(pipe).items() if k != "scheduler"}
    found = [type(pipe), id(pipe.scheduler), scheduler, {k: repr(v) for k, v in own.items()}]
    for part in pipe.components.values():
        if not isinstance(part, torch.nn.Module):
            continue
        for module in part.modules():
            hooks = (
                module._forward_hooks, module._forward_pre_hooks,
                module._forward_hooks_with_kwargs, module._forward_pre_hooks_with_kwargs,
            )  # fmt: skip
            found.append((module.training, [list(h) for h in hooks], sorted(vars(module))))
        tensors = [*part.parameters(), *part.buffers()]
        found += [(id(t), t.dtype, t.requires_grad, t.double().sum().item()) for t in tensors]
    return found


def train(name, pipe, network, watching=None, steps=3, backward=torch.Tensor.backward):
    """Steps with a watch between backward and optimizer, or without; gradients and reports."""
    trained = [p for p in network_of(pipe).parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    watched.seed()
    told, grads = [], []
    for number in range(steps):
        answer = network(**inputs(name, pipe)).sample
        backward((answer.float() - torch.rand(())).square().mean())
        if watching:
            before = state(pipe)
            told.append(watching(number, pipe))
            assert state(pipe) == before
        grads.append([p.grad.clone() for p in trained])
        optimizer.step()
        optimizer.zero_grad()
    return watched.digest(network_of(pipe), optimizer), watched.numbers(), grads, told
