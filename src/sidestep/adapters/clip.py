"""CLIP score: does a picture show what its prompt says?

The cosine of CLIP's embeddings of picture and prompt, not times 100 and not cut at 0. The prompt is
the one that was asked for: scored against a perturbed or re-anchored one, a method is paid for
changing the question. Memorized pictures score unnaturally high, so the score must fall a little
where copies stop. Source: Radford et al., ICML 2021; Hessel et al., EMNLP 2021, for its use.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sidestep.adapters.devices import usable
from sidestep.adapters.quiet import quiet
from sidestep.errors import BadModel, MissingExtra
from sidestep.similarity.base import Images, check_images

# What published scores rest on, by paper, under the names of the Hub.
BACKBONES = {
    "wen": "laion/CLIP-ViT-g-14-laion2B-s12B-b42K",
    "membench": "laion/CLIP-ViT-g-14-laion2B-s12B-b42K",
    "prss": "laion/CLIP-ViT-g-14-laion2B-s12B-b42K",
    "guard": "laion/CLIP-ViT-g-14-laion2B-s12B-b42K",
    "sail": "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
    "han": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
    "nemo": "openai/clip-vit-base-patch32",
    "clip-embeddings": "apple/DFN5B-CLIP-ViT-H-14-378",
}


class CLIPScore:
    """CLIP score under one backbone; scores of different backbones never compare.

    Attributes:
        name: `clip-score:` and the backbone, such as `clip-score:openai/clip-vit-base-patch32`; of
            a local folder its own name.
        fingerprint: SHA-256 over the weights, the same for a folder and for the Hub.
    """

    def __init__(
        self, source: Path | str, *, device: torch.device | str = "cpu", batch: int = 32
    ) -> None:
        """Load a CLIP in the format of transformers.

        Args:
            source: a local folder, or a name on the Hub; BACKBONES has those of the papers.
            device: where the network runs.
            batch: pictures or prompts per run.

        Raises:
            MissingExtra: transformers is not installed.
            BadModel: nothing there, out of reach, or no CLIP; or there is no such device.
            ValueError: batch is below 1.
        """
        if batch < 1:
            raise ValueError(f"batch is {batch}; it must be at least 1.")
        self.device, self.batch = usable(device), batch
        folder = Path(source)
        local = folder.is_dir()
        self._model, self._tokenizer, self._pixels = _load(source, local)
        self.name = f"clip-score:{folder.resolve().name if local else source}"
        self.fingerprint = _fingerprint(self._model)
        self._model.to(self.device)

    def score(self, images: Images, prompts: Sequence[str]) -> NDArray[np.float64]:
        """Cosine of each picture (N, H, W, 3), uint8 RGB, and its ORIGINAL prompt, (N,), [-1, 1].

        Prompts beyond the context of the text encoder (77 tokens) are cut, as everywhere.
        Raises ValueError unless there is one prompt for each picture.
        """
        if len(images) != len(prompts):
            raise ValueError(
                f"there are {len(images)} pictures and {len(prompts)} prompts; give one prompt for "
                "each picture, the one that was asked for"
            )
        # Each prompt once: the seeds of a prompt share it.
        distinct = sorted(set(prompts))
        texts = self.embed_prompts(distinct)
        rows = texts[[distinct.index(p) for p in prompts]]
        score: NDArray[np.float64] = np.einsum("nd,nd->n", self.embed_images(images), rows)
        return score

    @torch.inference_mode()
    def embed_images(self, images: Images) -> NDArray[np.float64]:
        """Pictures (N, H, W, 3), uint8 RGB, to rows (N, D) of length 1."""
        check_images(images)
        return self._rows(
            [
                self._model.get_image_features(
                    **self._pixels(images=list(images[i : i + self.batch]), return_tensors="pt").to(
                        self.device
                    )
                )
                for i in range(0, len(images), self.batch)
            ]
        )

    @torch.inference_mode()
    def embed_prompts(self, prompts: Sequence[str]) -> NDArray[np.float64]:
        """N prompts to rows (N, D) of length 1."""
        found = []
        for first in range(0, len(prompts), self.batch):
            tokens = self._tokenizer(
                list(prompts[first : first + self.batch]),
                padding=True,
                truncation=True,
                max_length=self._model.config.text_config.max_position_embeddings,
                return_tensors="pt",
            ).to(self.device)
            found.append(
                self._model.get_text_features(
                    input_ids=tokens.input_ids, attention_mask=tokens.attention_mask
                )
            )
        return self._rows(found)

    def _rows(self, parts: list[Any]) -> NDArray[np.float64]:
        width = self._model.config.projection_dim
        rows = [p.pooler_output.double().cpu() for p in parts] or [torch.empty(0, width).double()]
        unit = torch.nn.functional.normalize(torch.cat(rows), dim=1)
        result: NDArray[np.float64] = unit.numpy()
        return result


def _load(source: Path | str, local: bool) -> tuple[Any, Any, Any]:
    try:
        with quiet():
            # The PIL processor: the other one needs torchvision, resizes otherwise and is taken
            # only where that happens to be installed.
            from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel
    except ImportError as error:
        raise MissingExtra(
            "transformers", "Install it with: pip install 'sidestep[diffusers]'", "CLIP score"
        ) from error
    where = str(source)
    try:
        with quiet():
            model = CLIPModel.from_pretrained(where, local_files_only=local, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(where, local_files_only=local)
            pixels = CLIPImageProcessorPil.from_pretrained(where, local_files_only=local)
    # transformers lets whatever its loaders meet through: OSError, ValueError, the Hub's own.
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise BadModel(
            f"{where} cannot be loaded as a CLIP ({type(error).__name__}: {first}); give a folder "
            "that holds model, tokenizer and image processor, or a name on the Hub while it can be "
            "reached; what was fetched once is found again without it"
        ) from error
    return model.eval().requires_grad_(False), tokenizer, pixels


def _fingerprint(model: Any) -> str:
    digest = hashlib.sha256()
    for name, values in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(values.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
