"""Pictures of 32 pixels whose tiles can be told apart, and some that have nothing to tell."""

import numpy as np
from PIL import Image


def picture(seed):
    """Blocks of 4 pixels in random colours: structure that averaging leaves."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return coarse.repeat(4, 0).repeat(4, 1)


def draw(folder, number):
    """So many pictures into a new folder, 00.png and on: the eighth is the fourth once more, the
    ninth half flat and the tenth flat.
    """
    folder.mkdir()
    images = [picture(n) for n in range(number)]
    images[7] = images[3]
    images[8][:, 8:] = 200
    images[9][:] = 120
    for n, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{n:02d}.png")
    return folder
