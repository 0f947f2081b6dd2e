"""A scenario made ready: its methods, its model, the pictures to make, and how they are scored."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
import numpy as np

from sidestep.adapters.stable_diffusion import StableDiffusion, load
from sidestep.bench import demo, measures
from sidestep.bench.scenario import Compared, Embedded, Scenario, StableDiffusionModel
from sidestep.bench.sources.formats import Prompt, Prompts
from sidestep.errors import BadData, BadScenario
from sidestep.models import embedded
from sidestep.models.embedded import pictures as embedded_pictures
from sidestep.runs.generate import Job, Method, Model, Report, method, silent
from sidestep.runs.records import Form
from sidestep.runs.score import Asked, Images, Scorer, TextRecipe, embed
from sidestep.runs.scored import Score
from sidestep.sources import pictures

LISTED = 20  # unreadable images that a header names; it counts all
CONTROLS = 4  # never-trained pictures per held-out drawing, for the embedded model's threshold


class Material(NamedTuple):
    """What a run of a scenario needs beside its methods."""

    model: Model
    jobs: list[Job]
    score: Score
    header: dict[str, Any]  # about scenario, model and data, for run.json
    # Training pictures by id, where they may be shown beside generated ones. Those that others
    # brought are never copied.
    training: Mapping[str, Images] = MappingProxyType({})


def methods(scenario: Scenario) -> dict[str, list[Method]]:
    """By label of the scenario, one method per strength: the rows of the tables.

    A method with several strengths has what differs in its rows' labels. The word "none" stands
    for None, which TOML lacks. Raises SidestepError for a setting that a method does not have and
    BadScenario where two rows would share a folder.
    """
    made = {
        c.label: [_method(c, number, scenario) for number in range(len(c.strengths))]
        for c in scenario.methods
    }
    slugs = Counter(how.slug for rows in made.values() for how in rows)
    slug, times = slugs.most_common(1)[0]
    if times > 1:
        raise BadScenario(
            f"scenario {scenario.name}: {times} rows would be kept in the folder {slug!r}; give "
            "their methods labels of other letters"
        )
    return made


def _method(compared: Compared, number: int, scenario: Scenario) -> Method:
    given = compared.strengths[number]
    settings: dict[str, Any] = {k: None if v == "none" else v for k, v in given.items()}
    differ = [k for k in given if any(s.get(k) != given[k] for s in compared.strengths)]
    label = " ".join([compared.label, *(f"{k}={_shown(given[k])}" for k in differ)])
    made = method(compared.name, label, open_scale=scenario.sampling.scale, **settings)
    several = len(compared.strengths) > 1
    return replace(made, curve=compared.label, strength=number + 1.0 if several else None)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(str(v) for k, v in value.items() if k != "name")
    return str(value)


def open_scenario(
    scenario: Scenario,
    data: Path | None = None,
    *,
    device: str = "cpu",
    texts: Sequence[TextRecipe] | None = None,
    report: Report = silent,
) -> Material:
    """Load everything a run of the scenario needs.

    Args:
        scenario: what to run.
        data: folder of the files that `scenario.needs` lists; None for the embedded model.
        device: where the network runs.
        texts: image-text recipes to score pictures with; None takes those that the scenario names
            and that are there.
        report: told how many training pictures have been embedded.

    Raises:
        BadData: the data is not there or not of the published form.
        BadModel: the model, or the weights that similarity is measured with, cannot be loaded.
        MissingExtra: a similarity recipe that decides is not installed.
    """
    if isinstance(scenario.prompts, Embedded):
        return _embedded(scenario, scenario.prompts, device, texts, report)
    if data is None:
        raise BadData(
            f"{scenario.name} needs data that is no part of Sidestep; give its folder with --data. "
            "`sidestep bench prepare` with the same scenario and --data DIR says what belongs there"
        )
    return _from_data(scenario, scenario.prompts, data, device, texts, report)


def _embedded(
    scenario: Scenario,
    asked: Embedded,
    device: str,
    texts: Sequence[TextRecipe] | None,
    report: Report,
) -> Material:
    jobs = demo.jobs(
        asked.target_draws, asked.ordinary, asked.ordinary_draws, targets=asked.targets
    )
    recipes, notes = measures.recipes(scenario.metric, None, device)
    scorer, about = demo.embedded_scorer(CONTROLS, recipes, report)
    header = _header(scenario, notes, model=demo.about_model(), **about)
    model = load(embedded.folder(), device)
    training = {p.id: p.pixels for p in embedded_pictures.training_pictures()}
    return Material(model, jobs, replace(scorer, texts=tuple(texts or ())), header, training)


def _from_data(
    scenario: Scenario,
    asked: Prompts,
    data: Path,
    device: str,
    texts: Sequence[TextRecipe] | None,
    report: Report,
) -> Material:
    images = image_folder(scenario, data)
    metric = scenario.metric
    recipes, notes = measures.recipes(metric, data, device)
    if texts is None:
        texts, absent = measures.texts(metric, data, device)
        notes += absent
    prompts = chosen(asked, list(read_prompts(scenario, data)))
    model = load_model(scenario, data, device)
    refused, digest, rows = list[pictures.Unreadable](), hashlib.sha256(), dict[Path, int]()

    def named() -> Iterator[tuple[str, Images]]:
        for path, image in pictures.read_all(images, scenario.sampling.resolution, refused):
            rows[path] = len(rows)
            name = path.relative_to(images).as_posix()
            digest.update(name.encode() + image.tobytes())
            yield name, image

    references = embed(recipes, named(), len(pictures.files(images)), report)
    known = ask(prompts, rows)
    assert metric.cut is not None  # Scenario refuses a scenario with data and without a cut
    scorer = Scorer(references, metric.cut, known, texts=tuple(texts))
    header = _header(
        scenario,
        notes,
        model=about_model(scenario, model),
        cut={"recipe": recipes[0].name, "threshold": metric.cut, "source": metric.cut_source},
        # Another file of weights would give other numbers under the same name.
        measures={
            name: getattr(one, "fingerprint", "")
            for name, one in [*((r.name, r) for r in recipes), *((t.name, t) for t in texts)]
        },
        data={
            "prompts": len(known),
            "prompts_with_reference": sum(bool(one.own) for one in known.values()),
            "prompts_by_form": dict(Counter(one.form or "unknown" for one in known.values())),
            "prompts_sha256": hashlib.sha256(
                "\n".join(p.text for p in prompts).encode()
            ).hexdigest(),
            "references": len(references.ids),
            "references_sha256": digest.hexdigest(),
            "unreadable": len(refused),
            "unreadable_files": [one._asdict() for one in refused[:LISTED]],
        },
    )
    return Material(model, jobs(asked, prompts), scorer, header)


def read_prompts(scenario: Scenario, data: Path) -> Iterator[Prompt]:
    """Every prompt of the scenario's list, one at a time; raises BadData where it does not fit."""
    assert not isinstance(scenario.prompts, Embedded)
    return scenario.prompts.prompts(data, image_folder(scenario, data))


def image_folder(scenario: Scenario, data: Path) -> Path:
    """Where the reference images lie."""
    assert scenario.references is not None  # Scenario refuses data without references
    return data / scenario.references.path


def chosen(asked: Prompts, every: Sequence[Prompt]) -> Sequence[Prompt]:
    """The prompts to sample: all, or draws with replacement as numpy's global state makes them."""
    if not every:
        raise BadData(f"{asked.path} holds no prompt; is it the file that the scenario means?")
    if asked.choose is None:
        return every
    drawn = np.random.RandomState(asked.choose.numpy_seed).choice(len(every), asked.choose.count)
    return [every[i] for i in drawn]


def jobs(asked: Prompts, prompts: Sequence[Prompt]) -> list[Job]:
    """The pictures to make; a prompt that comes again has its next draws."""
    made, before = list[Job](), Counter[str]()
    for prompt in prompts:
        for _ in range(asked.draws):
            made.append(Job(prompt.text, before[prompt.text], asked.kind))
            before[prompt.text] += 1
    return made


def ask(prompts: Sequence[Prompt], rows: Mapping[Path, int]) -> dict[str, Asked]:
    """By text, what is known of a prompt; `rows` are those of the readable images.

    A caption of several training pictures has them all as its own.
    """
    own, forms = dict[str, set[int]](), dict[str, Form | None]()
    for prompt in prompts:
        own.setdefault(prompt.text, set()).update(rows[p] for p in prompt.own if p in rows)
        forms.setdefault(prompt.text, prompt.form)
    return {text: Asked(tuple(sorted(own[text])), None, forms[text]) for text in own}


def load_model(scenario: Scenario, data: Path, device: str = "cpu") -> StableDiffusion:
    """The scenario's model from the data folder, or from the Hub where it is not there."""
    model = scenario.model
    assert isinstance(model, StableDiffusionModel)
    folder = data / model.path
    source = folder if folder.is_dir() or model.hub is None else model.hub
    unet = data / model.unet if model.unet is not None else None
    return load(source, device, unet=unet, resolution=scenario.sampling.resolution)


def about_model(scenario: Scenario, model: StableDiffusion) -> dict[str, str]:
    """The model as a run header names it: not where a machine keeps it, but what is in it."""
    assert isinstance(scenario.model, StableDiffusionModel)
    parts = {"name": scenario.model.path, "unet": scenario.model.unet}
    return {k: v for k, v in parts.items() if v is not None} | {"sha256": model.fingerprint}


def _header(scenario: Scenario, notes: Sequence[str], **about: Any) -> dict[str, Any]:
    return {
        "scenario": {
            "name": scenario.name,
            "version": scenario.version,
            "sha256": scenario.fingerprint,
        },
        "scale": scenario.sampling.scale,
        "sampler": scenario.sampling.solver,
        "resolution": scenario.sampling.resolution,
        "notes": [*scenario.notes, *notes],
        # For tables that put the strengths of a method together and others' numbers beside them.
        "compared": {label: [m.label for m in rows] for label, rows in methods(scenario).items()},
        "published": msgspec.to_builtins(scenario.published),
        **about,
    }
