"""Measure the update norms of ordinary captions, for the update-norm rows of the comparison.

Writes src/sidestep/bench/scenarios/update-region.json for the embedded scenario's steps and scale.
The captions are those of concepts that the comparison's ordinary captions leave out.
"""

from pathlib import Path

from sidestep.adapters.stable_diffusion import load
from sidestep.bench import demo
from sidestep.bench.embedded import REGION
from sidestep.bench.loading import load as load_scenario
from sidestep.guidance import Constant
from sidestep.mitigations import Start
from sidestep.mitigations.update_norm import Calibration
from sidestep.models import embedded
from sidestep.models.embedded import pictures
from sidestep.rng import image_seed, noise
from sidestep.sampling.mitigated import sample_mitigated

OUT = Path(__file__).parents[1] / "src/sidestep/bench/scenarios" / REGION
SEED = 9  # of no other run
PICTURES = 64


def main() -> None:
    """Calibrate and write."""
    scenario = load_scenario("embedded")
    asked = {job.prompt for job in demo.jobs(0, scenario.prompts.ordinary)}
    captions = [f"a {concept}" for concept in pictures.concepts()]
    captions = [caption for caption in captions if caption not in asked]
    prompts = tuple(captions[i % len(captions)] for i in range(PICTURES))
    seeds = tuple(image_seed(SEED, prompt, draw) for draw, prompt in enumerate(prompts))
    model, calibration = load(embedded.folder()), Calibration()
    start = Start(
        denoiser=model.denoiser(prompts),
        x=noise(list(seeds), model.latent_shape),
        levels=tuple(model.schedule.grid(scenario.sampling.steps)),
        seeds=seeds,
        prompts=prompts,
        model=model,
        scale=scenario.sampling.scale,
        network=model.name,
    )
    sample_mitigated([calibration], start, Constant(scenario.sampling.scale), model.schedule)
    calibration.region().save(OUT)


if __name__ == "__main__":
    main()
