"""A CLIP with random weights, as a folder in the format of transformers."""

import torch

from sidestep.models import embedded


def save(path):
    """Write it into the folder `path`, which gives it its name; the words are the drawings'."""
    from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessorPil, CLIPModel

    tokenizer = AutoTokenizer.from_pretrained(embedded.folder() / "tokenizer")
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
             "num_attention_heads": 2}  # fmt: skip
    text = {**small, "vocab_size": len(tokenizer), "max_position_embeddings": 20,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id}  # fmt: skip
    vision = {**small, "image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12))
    for part in (model, tokenizer):
        part.save_pretrained(path)
    size = {"shortest_edge": 32}
    CLIPImageProcessorPil(size=size, crop_size={"height": 32, "width": 32}).save_pretrained(path)
    return path
