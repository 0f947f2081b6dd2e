"""Image transformers that make both predictions in one call, conditional half first."""

from typing import Any

from adapters.families.base import Family, Rows, randomize
from adapters.families.dit import TOKENS, WIDTH, flow, masked_prompts
from adapters.families.sd import SIDE, autoencoder, ddim
from torch import Tensor


def lumina() -> Any:
    from diffusers import LuminaNextDiT2DModel, LuminaPipeline

    transformer = LuminaNextDiT2DModel(
        sample_size=SIDE,
        patch_size=2,
        in_channels=4,
        hidden_size=16,
        num_layers=2,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=8,
        norm_eps=1e-5,
        learn_sigma=True,
        qk_norm=True,
        cross_attention_dim=WIDTH,
    )
    randomize(transformer, "lumina", clock=8.0, patch_embedder=0.3)
    return LuminaPipeline(
        transformer=transformer,
        scheduler=flow(),
        vae=autoencoder(),
        text_encoder=None,
        tokenizer=None,
    )


NO_CLASS = 1000


def dit() -> Any:
    from diffusers import DiTPipeline, DiTTransformer2DModel

    transformer = DiTTransformer2DModel(
        sample_size=SIDE,
        patch_size=2,
        in_channels=4,
        out_channels=8,  # with a learned variance, which the pipeline drops
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        num_embeds_ada_norm=NO_CLASS,
    )
    randomize(transformer, "dit", clock=1.5)
    return DiTPipeline(transformer=transformer, vae=autoencoder(), scheduler=ddim())


def classes(rows: Rows) -> dict[str, Any]:
    labels = [
        NO_CLASS if place in rows.swapped else 100 + number
        for place, number in enumerate(rows.numbers)
    ]
    return {"class_labels": labels}


def before_decoding(pipe: Any, arguments: dict[str, Any]) -> Tensor:
    """This pipeline has no output_type="latent": its latents, as they enter the decoder."""
    seen: list[Tensor] = []
    first = pipe.vae.post_quant_conv
    hook = first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        pipe(**arguments, output_type="pt")
    finally:
        hook.remove()
    (latents,) = seen
    return latents * pipe.vae.config.scaling_factor


def z_image() -> Any:
    from diffusers import ZImagePipeline, ZImageTransformer2DModel

    transformer = ZImageTransformer2DModel(
        all_patch_size=(2,),
        all_f_patch_size=(1,),
        in_channels=4,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=WIDTH,
        axes_dims=[8, 4, 4],
        axes_lens=[64, 16, 16],
    )
    randomize(transformer, "z-image")
    return ZImagePipeline(
        scheduler=flow(shift=3.0),
        vae=autoencoder(),
        text_encoder=None,
        tokenizer=None,
        transformer=transformer,
    )


def prompt_lists(rows: Rows) -> dict[str, Any]:
    """One tensor per row, (tokens, width)."""
    name = "prompt_embeds"
    return {
        name: rows.positive(name, TOKENS, WIDTH),
        f"negative_{name}": rows.negative(name, TOKENS, WIDTH),
    }


def family(name: str, pipeline: str, **fields: Any) -> Family:
    return Family(
        name=name, pipeline=pipeline, denoisers=("transformer",), layout="batched [c,u]", **fields
    )


FAMILIES = (
    family(
        "lumina-next",
        "LuminaPipeline",
        make=lumina,
        inputs=masked_prompts,
        conditioning=("encoder_hidden_states", "encoder_mask"),
        settings={"height": 8 * SIDE, "width": 8 * SIDE},
    ),
    family(
        "dit",
        "DiTPipeline",
        make=dit,
        inputs=classes,
        conditioning=("class_labels",),
        run=before_decoding,
    ),
    family(
        "z-image",
        "ZImagePipeline",
        make=z_image,
        inputs=prompt_lists,
        conditioning=("cap_feats",),
        settings={"height": SIDE, "width": SIDE},
    ),
)
