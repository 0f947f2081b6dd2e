import hashlib

import pytest
import torch

from sidestep.rng import image_seed, noise


def test_noise_of_an_image_depends_on_its_own_seed_alone():
    whole = noise([3, 1, 2**63 - 1, 4], (2, 3))
    assert whole.dtype == torch.float32
    for row, seed in zip(whole, [3, 1, 2**63 - 1, 4], strict=True):
        assert torch.equal(noise([seed], (2, 3))[0], row)
    assert torch.equal(noise([4, 3], (2, 3)), whole[[3, 0]])


def test_a_seed_is_the_hash_of_run_prompt_and_draw():
    digest = hashlib.sha256(b"7\x1f2\x1fa fox").hexdigest()
    assert image_seed(7, "a fox", 2) == int(digest[:16], 16) // 2
    seeds = {image_seed(r, p, d) for r in range(5) for p in ("a", "b", "", "ä") for d in range(5)}
    assert len(seeds) == 100
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_no_seeds_are_refused():
    with pytest.raises(ValueError, match="there are no seeds"):
        noise([], (2, 3))
