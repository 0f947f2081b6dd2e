"""`sidestep.CopyWatch`: how much of its training set a model in training gives back, every N steps.

A loss says how well noise is predicted on average. Whether a prompt now returns the picture it was
trained with is another question, and the only way to know is to draw it and look.
"""

import gc
import hashlib
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sidestep.adapters.in_training import in_training, networks, of_pipeline, precision
from sidestep.adapters.pipelined import Pipelined
from sidestep.adapters.stable_diffusion import StableDiffusion
from sidestep.adapters.undisturbed import undisturbed
from sidestep.audit.watch.drawing import Drawing, Drawn, prompts_of
from sidestep.audit.watch.logbook import Logbook
from sidestep.audit.watch.loggers import Logger, Shown
from sidestep.audit.watch.report import GivenBack, Rate, Report
from sidestep.audit.watch.training import Nearest, Picture, Source, framed, open_training
from sidestep.errors import BadModel, SidestepError
from sidestep.guidance.schedules import DEFAULT_SCALE
from sidestep.runs.generate import Model, sampler_of
from sidestep.similarity.base import Images, Recipe
from sidestep.similarity.calibration import Calibration, calibrate
from sidestep.similarity.intervals import clopper_pearson

GIVEN_BACK = 10  # training pictures that a report names
CLOSEST = 4  # pictures that loggers are shown
NAMES = ("unet", "text_encoder", "vae", "tokenizer", "scheduler")


class CopyWatch:
    """Draws training captions from a model in training and counts copies.

    Attributes:
        reports: every report so far, those of earlier processes too, by step.
        calibration: above which similarity a picture is a copy; None before it is known.
    """

    def __init__(
        self,
        training: Source,
        *,
        captions: Sequence[str] | int = 32,
        every: int = 500,
        calibration: Calibration | str | Path | Sequence[Picture] | Images | None = None,
        rate: float = 0.01,
        draws: int = 1,
        steps: int = 25,
        scale: float = DEFAULT_SCALE,
        seed: int = 0,
        resolution: int | None = None,
        recipe: Recipe | str | None = None,
        file: str | Path | None = None,
        log: Logger | Iterable[Logger] = (),
        batch: int = 8,
    ) -> None:
        """Look at the training pictures; nothing is drawn yet.

        Args:
            training: an `Index` or its folder, any collection that `sidestep index` reads, or
                pairs of a picture (PIL, or uint8 (H, W, 3)) and its caption.
            captions: prompts to draw, or how many of the training captions, chosen by `seed`.
            every: steps between reports; the first is of step 0.
            calibration: pictures that were never trained on, or a `Calibration` made of some.
                None takes the pictures of the same captions by the untouched model, at step 0.
            rate: share of pictures that may pass as copies by chance, in (0, 1).
            draws: pictures of each prompt in a report.
            steps: of the sampler.
            scale: of guidance.
            seed: of the pictures; they depend on it, the prompt and the number of the draw.
            resolution: side of the pictures in pixels; may be left out for an index, which has it.
            recipe: that compares pictures, or its name; None = that of the index, else SSCD.
            file: JSON lines of calibration and reports, appended; an interrupted training goes on
                in it. None keeps them in memory only.
            log: told each report after it is in the file.
            batch: pictures drawn at once; bounds memory.

        Raises:
            BadData: a picture cannot be read, or there is none.
            BadRecords: the file is of other settings, or the index of another recipe.
            MissingExtra: a package is not installed.
            ValueError: a setting is out of range or does not fit another.
        """
        if every < 1:
            raise ValueError(f"every is {every}; it is a number of steps, at least 1")
        if not 0 < rate < 1:
            raise ValueError(f"rate is {rate}; it is a share between 0 and 1, such as 0.01")
        self._every, self._rate = every, rate
        self._log = tuple(log) if isinstance(log, Iterable) else (log,)
        self._training = open_training(training, resolution, recipe)
        prompts = (
            prompts_of(self._training.captions, captions, seed)
            if isinstance(captions, int)
            else tuple(captions)
        )
        self._drawing = Drawing(prompts, draws, steps, scale, seed, batch)
        given = self._given(calibration)
        self._book = Logbook(Path(file) if file else None, self._settings(given))
        self._waiting = None if self._book.calibration else given

    @property
    def reports(self) -> Mapping[int, Report]:
        """Every report by its step."""
        return dict(self._book.reports)

    @property
    def calibration(self) -> Calibration | None:
        """Above which similarity a picture is a copy."""
        return self._book.calibration or self._waiting

    def __call__(
        self,
        step: int,
        pipeline: Any = None,
        *,
        unet: Any = None,
        text_encoder: Any = None,
        vae: Any = None,
        tokenizer: Any = None,
        scheduler: Any = None,
    ) -> Report | None:
        """The report of a step, or None where none is due or the step was reported already.

        Give the modules of a Stable Diffusion 1 or 2 in training, or a text-to-image pipeline of
        the modules in training, which draws with its own scheduler. They may be wrapped; see
        `adapters.in_training`. Nothing of training or pipeline is changed by it, random numbers
        included. Of several processes the first one draws, and the others get None at once.

        Raises:
            BadModel: modules are missing, of another family, spread over processes or devices.
            BadRecords: another scheduler or precision than in earlier reports.
            SidestepError: the untouched model is to calibrate, and the first call is not of step 0.
        """
        if not _first_process():
            return None
        if self.calibration is None and step > 0:
            raise SidestepError(
                f"the first call is of step {step}, and no picture of the untouched model was seen "
                "to calibrate with. Call this with step 0 before the first step, go on with the "
                "`file` of the interrupted training, or give never-trained pictures as calibration"
            )
        if step % self._every or step in self._book.reports:
            return None
        given = (unet, text_encoder, vae, tokenizer, scheduler)
        model = self._model(pipeline, dict(zip(NAMES, given, strict=True)))
        self._book.drawn_by({"sampler": sampler_of(model), "precision": precision(model)})
        try:
            # Recipes and loggers are other people's code, and may draw random numbers too.
            with undisturbed(list(networks(model).values())):
                self._calibrate(model)
                return self._report(step, model)
        finally:
            del model
            _free()

    def _model(self, pipeline: Any, modules: dict[str, Any]) -> StableDiffusion | Pipelined:
        missing = [name for name, module in modules.items() if module is None]
        if pipeline is None and missing:
            raise BadModel(f"{', '.join(missing)} is missing; give it, or a pipeline")
        if pipeline is not None and len(missing) < len(modules):
            raise BadModel("a pipeline and modules came; give one of the two")
        side = self._training.side
        if pipeline is None:
            return in_training(**modules, resolution=side)
        return of_pipeline(pipeline, side)

    def _given(self, calibration: Any) -> Calibration | None:
        if calibration is None:
            return None
        recipe = self._training.recipe
        if not isinstance(calibration, Calibration):
            never_trained = framed(calibration, self._training.side)
            return self._calibration(self._training.nearest(never_trained))
        ours = (recipe.name, getattr(recipe, "fingerprint", ""))
        if (calibration.recipe, calibration.fingerprint) != ours:
            raise ValueError(
                f"the calibration is of {calibration.recipe}, and pictures are compared by "
                f"{recipe.name} (or by another model of it); calibrate with that"
            )
        return calibration

    def _calibration(self, found: Nearest) -> Calibration:
        recipe = self._training.recipe
        fingerprint = getattr(recipe, "fingerprint", "")
        return calibrate(recipe.name, found.similarity, self._rate, fingerprint=fingerprint)

    def _settings(self, given: Calibration | None) -> dict[str, Any]:
        """All that makes two reports comparable; batch size and interval do not."""
        drawing, recipe = self._drawing, self._training.recipe
        return {
            "training": self._training.hash,
            "side": self._training.side,
            "recipe": recipe.name,
            "fingerprint": getattr(recipe, "fingerprint", ""),
            "prompts": len(drawing.prompts),
            "prompts_sha256": hashlib.sha256("\x1f".join(drawing.prompts).encode()).hexdigest(),
            "draws": drawing.draws,
            "steps": drawing.steps,
            "scale": drawing.scale,
            "seed": drawing.seed,
            "rate": self._rate,
            "calibration": given.to_dict() if given else "untouched model",
        }

    def _calibrate(self, model: Model) -> None:
        """Keep the threshold: the one given, or one from the untouched model's pictures."""
        if self._book.calibration is not None:
            return
        if self._waiting is not None:
            self._book.calibrated(self._waiting)
            return
        begun, drawing = time.perf_counter(), self._drawing
        # Other draws than those of the reports, so that the report of step 0 puts it to the test.
        more = ceil((ceil(1 / self._rate) - 1) / len(drawing.prompts))
        drawn = drawing.draw(model, drawing.draws, drawing.draws + more)
        calibration = self._calibration(self._training.nearest(drawn.images))
        seconds = time.perf_counter() - begun
        self._book.calibrated(calibration, nfe=drawn.nfe, seconds=seconds)

    def _report(self, step: int, model: Model) -> Report:
        begun = time.perf_counter()
        drawn = self._drawing.draw(model, 0, self._drawing.draws)
        found = self._training.nearest(drawn.images)
        assert self._book.calibration is not None  # _calibrate came before
        copied = self._book.calibration.copies(found.similarity)
        n, k = len(copied), int(copied.sum())
        report = Report(
            step=step,
            pictures=n,
            copies=k,
            rate=Rate(k / n, *clopper_pearson(k, n)),
            similarity_mean=float(found.similarity.mean()),
            similarity_p95=float(np.percentile(found.similarity, 95)),
            given_back=self._given_back(found, copied.tolist()),
            nfe=drawn.nfe,
            seconds=time.perf_counter() - begun,
        )
        self._book.reported(report)
        if self._log:
            shown = self._closest(drawn, found)
            for logger in self._log:
                logger.log(step, report.values, shown)
        return report

    def _given_back(self, found: Nearest, copied: Sequence[bool]) -> tuple[GivenBack, ...]:
        of = defaultdict[int, list[float]](list)
        for row, similarity, copy in zip(found.rows, found.similarity, copied, strict=True):
            if copy:
                of[row].append(float(similarity))
        ids, captions = self._training.ids, self._training.captions
        every = [GivenBack(ids[r], captions[r], len(s), max(s)) for r, s in of.items()]
        every.sort(key=lambda g: (-g.copies, -g.similarity))
        return tuple(every[:GIVEN_BACK])

    def _closest(self, drawn: Drawn, found: Nearest) -> list[Shown]:
        shown = []
        for place in np.argsort(-found.similarity, kind="stable")[:CLOSEST]:
            row, image = found.rows[place], drawn.images[place]
            beside = self._training.picture(row)
            both = image if beside is None else np.concatenate([image, beside], axis=1)
            said = f"{drawn.jobs[place].prompt} | {self._training.ids[row]}"
            shown.append(Shown(both, f"{said} | similarity {found.similarity[place]:.3f}"))
        return shown


def _first_process() -> bool:
    there = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not there or torch.distributed.get_rank() == 0


def _free() -> None:
    """Give back what drawing held on the GPU: training allocates in other sizes."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        gc.collect()
        torch.cuda.empty_cache()
