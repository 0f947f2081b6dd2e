"""The audit of the embedded model: it brings its own pictures."""

from typing import TYPE_CHECKING, Any

import click

from sidestep.cli._model import Chosen

if TYPE_CHECKING:
    from sidestep.audit.request import Material, Subject

OWN = ("images", "controls", "prompts", "ordinary", "clip", "side")


def prepared(model: Chosen, options: dict[str, Any]) -> "tuple[Subject, Material]":
    """What the demo audits and against what."""
    given = [f"--{name}" for name in OWN if options[name] is not None]
    given += ["--lora"] if model.lora is not None else []
    if given:
        raise click.UsageError(f"the demo has pictures of its own and takes no {', '.join(given)}")
    from sidestep.audit import demo
    from sidestep.audit.request import Subject
    from sidestep.runs.generate import method

    how = method(**options["rule"], mitigations=options["mitigations"])
    subject = Subject(
        model._replace(source="embedded").load(), "embedded", how, loading=model.loading
    )
    return subject, demo.material()
