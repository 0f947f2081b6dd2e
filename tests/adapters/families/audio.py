"""Audio: a UNet over spectrograms that reads two prompt sequences."""

from typing import Any

from adapters.families.base import Family, Rows, randomize
from adapters.families.dit import TOKENS, WIDTH
from adapters.families.sd import autoencoder, ddim, quieten

BINS, RATE = 8, 16000  # of the spectrogram; samples per second


def audioldm2() -> Any:
    from diffusers import (
        AudioLDM2Pipeline,
        AudioLDM2ProjectionModel,
        AudioLDM2UNet2DConditionModel,
    )
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        SpeechT5HifiGan,
        SpeechT5HifiGanConfig,
        T5Config,
        T5EncoderModel,
    )

    unet = AudioLDM2UNet2DConditionModel(
        sample_size=BINS,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=2,
        norm_num_groups=4,
        cross_attention_dim=(WIDTH, WIDTH),
    )
    randomize(unet, "audioldm2")
    quieten(unet.conv_in)
    # The pipeline asks these two for their dtype, though their work is passed in.
    language = GPT2LMHeadModel(GPT2Config(n_embd=4, n_head=1, n_layer=1, vocab_size=8))
    text = T5EncoderModel(
        T5Config(vocab_size=8, d_model=4, d_ff=4, d_kv=4, num_heads=1, num_layers=1)
    )
    vocoder = SpeechT5HifiGan(
        SpeechT5HifiGanConfig(
            model_in_dim=BINS,
            sampling_rate=RATE,
            upsample_initial_channel=4,
            upsample_rates=[2],
            upsample_kernel_sizes=[4],
            resblock_kernel_sizes=[3],
            resblock_dilation_sizes=[[1]],
        )
    )
    return AudioLDM2Pipeline(
        vae=autoencoder(pixels=1),
        text_encoder=None,
        text_encoder_2=text,
        projection_model=AudioLDM2ProjectionModel(4, 4, 4),
        language_model=language,
        tokenizer=None,
        tokenizer_2=None,
        feature_extractor=None,
        unet=unet,
        scheduler=ddim(),
        vocoder=vocoder,
    )


def prompts(rows: Rows) -> dict[str, Any]:
    both = rows.pair("prompt_embeds", TOKENS, WIDTH) | rows.masks("attention_mask", TOKENS)
    return both | rows.pair("generated_prompt_embeds", TOKENS, WIDTH)


FAMILIES = (
    Family(
        name="audioldm2",
        pipeline="AudioLDM2Pipeline",
        denoisers=("unet",),
        layout="batched [u,c]",
        make=audioldm2,
        inputs=prompts,
        conditioning=(
            "encoder_hidden_states",
            "encoder_hidden_states_1",
            "encoder_attention_mask_1",
        ),
        # Eight frames of the spectrogram, each two samples long.
        settings={"audio_length_in_s": 8 * 2 / RATE},
    ),
)
