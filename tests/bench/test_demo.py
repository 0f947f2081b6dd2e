"""What the demo and the model card ask the embedded model for."""

import pytest

from sidestep.bench import demo
from sidestep.models.embedded import pictures


@pytest.mark.parametrize(("draws", "ordinary"), [(3, 60), (1, 15), (8, 250)])
def test_every_picture_is_asked_for_once(draws, ordinary):
    jobs = demo.jobs(draws, ordinary)
    assert len(jobs) == len(set(jobs)) == draws * len(pictures.targets()) + ordinary
    assert {job.prompt for job in jobs} <= demo.asked().keys()
    # Draws of a caption are numbered from 0, so that a seed is used before the next one is.
    for caption in {job.prompt for job in jobs}:
        numbers = sorted(job.draw for job in jobs if job.prompt == caption)
        assert numbers == list(range(len(numbers)))


def test_several_draws_of_an_ordinary_caption_follow_each_other():
    jobs = [job for job in demo.jobs(0, 20, 2)]
    assert [job.draw for job in jobs] == [0, 1] * 20
    assert len({job.prompt for job in jobs}) == 20
    assert len(demo.jobs(4, 0, targets=20)) == 80
