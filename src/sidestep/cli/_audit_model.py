"""The audit of somebody's model: everything from files."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sidestep.cli._model import Chosen
from sidestep.errors import BadData

if TYPE_CHECKING:
    from sidestep.audit.request import Material, Subject


def prepared(model: Chosen, options: dict[str, Any]) -> "tuple[Subject, Material]":
    """The model, with and without its LoRA, and the pictures and prompts."""
    if options["images"] is None:
        raise click.UsageError("--images is missing: the training pictures, a folder for example")
    if options["controls"] is None and model.lora is None:
        raise click.UsageError(
            "--controls is missing: pictures that the model was never trained on, of the same "
            "kind. `sidestep hold-out` sets some apart before training; for a LoRA the base "
            "model's pictures serve"
        )
    subject = _subject(model, options)
    return subject, _material(subject, model.device, options)


def _subject(model: Chosen, options: dict[str, Any]) -> "Subject":
    from sidestep.audit.request import Subject
    from sidestep.runs.generate import method

    how = method(**options["rule"], mitigations=options["mitigations"])
    name = Path(model.source).name
    if model.lora is None:
        return Subject(model.load(), name, how, loading=model.loading)
    base = None if options["controls"] is not None else model.base().load()
    tuned = model.load()
    return Subject(tuned, name, how, model.lora.name, model.lora_scale, base, model.loading)


def _material(subject: "Subject", device: str, options: dict[str, Any]) -> "Material":
    from sidestep.adapters.clip import CLIPScore
    from sidestep.audit import prompts
    from sidestep.audit.recipes import recipe
    from sidestep.audit.request import Material
    from sidestep.sources.base import Columns
    from sidestep.sources.collection import open_collection

    columns = Columns(options["image_column"], options["caption_column"])
    controls, ordinary, asked = options["controls"], options["ordinary"], options["prompts"]
    clip = options["clip"]
    if controls is not None and Path(controls).resolve() == Path(options["images"]).resolve():
        raise BadData("--controls and --images are the same; controls were never trained on")
    from_base = f"the base model's pictures for the same prompts, without {subject.lora}"
    return Material(
        images=open_collection(options["images"], columns),
        source=Path(options["images"]).name,
        recipe=recipe(**options["recipe"]),
        side=options["side"] or subject.model.resolution[0],
        controls=None if controls is None else open_collection(controls, columns),
        controls_source=from_base if controls is None else Path(controls).name,
        ordinary=prompts.ordinary() if ordinary is None else prompts.from_file(ordinary),
        ordinary_source="of Sidestep" if ordinary is None else ordinary.name,
        prompts=None if asked is None else prompts.from_file(asked),
        prompts_source="captions of the training pictures" if asked is None else asked.name,
        texts=() if clip is None else (CLIPScore(clip, device=device),),
    )
