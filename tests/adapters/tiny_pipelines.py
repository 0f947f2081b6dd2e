"""Tiny pipelines of other families with text encoders, so that they take prompts.

`sdxl` has the embedded model's network, which memorizes, in the clothes of an SDXL: the added
inputs end in zeros. The others have random weights.
"""

import diffusers
import torch
import transformers
from adapters.families import separate
from adapters.families.base import randomize
from adapters.families.dit import flow
from adapters.families.sd import autoencoder, ddim
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
)

from sidestep.models import embedded

WIDTH, SIDE = 16, 8  # of a token; of the latents and of random networks' pictures


class Normed(CLIPTextModelWithProjection):
    """SDXL reads the last state but one, and the embedded network was trained on the last."""

    def forward(self, *args, **kwargs):
        made = super().forward(*args, **kwargs)
        states = list(made.hidden_states)
        states[-2] = made.last_hidden_state
        made.hidden_states = tuple(states)
        return made


def sdxl():
    folder = embedded.folder()
    plain = diffusers.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    torch.manual_seed(0)  # for what is added
    text = Normed(CLIPTextConfig(**plain.text_encoder.config.to_dict() | {"projection_dim": 8}))
    text.text_model.load_state_dict(plain.text_encoder.state_dict())
    unet = diffusers.UNet2DConditionModel.from_config(
        dict(plain.unet.config),
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=6 * 4 + 8,
    )
    unet.load_state_dict(plain.unet.state_dict(), strict=False)
    torch.nn.init.zeros_(unet.add_embedding.linear_2.weight)
    torch.nn.init.zeros_(unet.add_embedding.linear_2.bias)
    return diffusers.StableDiffusionXLPipeline(
        vae=plain.vae, unet=unet.eval(), scheduler=plain.scheduler,
        text_encoder=None, tokenizer=None, text_encoder_2=text.eval(), tokenizer_2=plain.tokenizer,
        add_watermarker=False, force_zeros_for_empty_prompt=False,
    )  # fmt: skip


def decoder(channels=4):
    """The smallest one; flow models shift their latents."""
    made = autoencoder(channels=channels).eval()
    made.register_to_config(shift_factor=0.0)
    return made


def clip(kind=CLIPTextModel, **more):
    words = CLIPTokenizer.from_pretrained(embedded.folder() / "tokenizer")
    config = CLIPTextConfig(
        vocab_size=len(words), hidden_size=WIDTH, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=words.model_max_length,
        bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id, projection_dim=8, **more,
    )  # fmt: skip
    made = kind(config).eval()
    randomize(made, "clip")
    return made, words


def t5():
    known = ["<pad>", "</s>", "<unk>", "a", "fox", "hen", "red", "picture", "of"]
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(known)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        model_max_length=512,
    )  # fmt: skip
    config = T5Config(
        vocab_size=len(known), d_model=WIDTH, d_ff=16, d_kv=8, num_heads=2, num_layers=1
    )
    made = T5EncoderModel(config).eval()
    randomize(made, "t5")
    return made, fast


def sd3():
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=SIDE, patch_size=2, in_channels=4, out_channels=4, num_layers=2,
        attention_head_dim=8, num_attention_heads=2, caption_projection_dim=16,
        joint_attention_dim=2 * WIDTH, pooled_projection_dim=16, pos_embed_max_size=SIDE,
    )  # fmt: skip
    randomize(transformer, "sd3", clock=2.0)
    one, words = clip(CLIPTextModelWithProjection)
    two, _ = clip(CLIPTextModelWithProjection)
    return diffusers.StableDiffusion3Pipeline(
        transformer=transformer.eval(), scheduler=flow(), vae=decoder(),
        text_encoder=one, tokenizer=words, text_encoder_2=two, tokenizer_2=words,
        text_encoder_3=None, tokenizer_3=None,
    )  # fmt: skip


def pixart():
    transformer = diffusers.PixArtTransformer2DModel(
        sample_size=SIDE, patch_size=2, in_channels=4, out_channels=8, num_layers=2,
        attention_head_dim=8, num_attention_heads=2, caption_channels=WIDTH,
        cross_attention_dim=16,
    )  # fmt: skip
    randomize(transformer, "pixart", clock=2.0, attn2=3.0)
    text, words = t5()
    return diffusers.PixArtSigmaPipeline(
        tokenizer=words, text_encoder=text, vae=autoencoder().eval(),
        transformer=transformer.eval(), scheduler=ddim(),
    )  # fmt: skip


def flux():
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=WIDTH, pooled_projection_dim=WIDTH,
        axes_dims_rope=(2, 2, 4),
    )  # fmt: skip
    randomize(transformer, "flux", clock=2.0)
    one, words = clip()
    text, two = t5()
    return diffusers.FluxPipeline(
        scheduler=flow(), vae=decoder(channels=1), text_encoder=one, tokenizer=words,
        text_encoder_2=text, tokenizer_2=two, transformer=transformer.eval(),
    )  # fmt: skip


def cogview4():
    """Not among the builders: its own batches mix prompts."""
    (family,) = (f for f in separate.FAMILIES if f.name == "cogview4")
    pipe = family.build()
    _, words = t5()
    words.padding_side = "left"
    config = transformers.GlmConfig(
        vocab_size=len(words), hidden_size=pipe.transformer.config.text_embed_dim,
        intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        head_dim=8, pad_token_id=0,
    )  # fmt: skip
    text = transformers.GlmModel(config).eval()
    randomize(text, "glm")
    pipe.register_modules(tokenizer=words, text_encoder=text)
    return pipe


BUILDERS = {"sdxl": sdxl, "sd3": sd3, "pixart": pixart, "flux": flux}
