"""What an audit was begun with: written down first, and held to until it is finished."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sidestep.audit.prompts import digest
from sidestep.audit.request import Material, Request, Subject
from sidestep.errors import BadRecords
from sidestep.files import write
from sidestep.runs.generate import sampler_of

FILE = "plan.json"


def begun(work: Path, subject: Subject, material: Material, request: Request) -> str:
    """When the audit of a folder began, UTC; its plan is written now if it is new.

    Raises BadRecords where the folder holds an audit that was asked something else.
    """
    asked = json.loads(json.dumps(_asked(subject, material, request)))
    path = work / FILE
    if path.exists():
        try:
            there = json.loads(path.read_bytes())
            created, before = str(there["created"]), dict(there["asked"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadRecords(f"{path} is damaged ({error}); give another folder") from error
        if before != asked:
            other = [k for k in asked if before.get(k) != asked[k]]
            raise BadRecords(
                f"{work.parent} holds an audit that was asked something else ("
                f"{', '.join(other) or 'of another version'}), and the two must not be mixed. Give "
                "another folder, or delete this one"
            )
        return created
    created = datetime.now(UTC).isoformat(timespec="seconds")
    text = json.dumps({"created": created, "asked": asked}, indent=1)
    write(path, text.encode())
    return created


def _asked(subject: Subject, material: Material, request: Request) -> dict[str, Any]:
    return {
        "model": subject.model.fingerprint,
        "sampler": sampler_of(subject.model),
        "resolution": subject.model.resolution,
        "setting": {"name": subject.method.name, **subject.method.settings},
        "recipe": material.recipe.name,
        "side": material.side,
        "images": material.source,
        "controls": material.controls_source,
        "prompts": None if material.prompts is None else digest(material.prompts),
        "ordinary": digest(material.ordinary),
        **request.to_dict(),
    }
