"""Every registered similarity recipe that needs no file: what indices and audits count on."""

import inspect

import numpy as np
import pytest

from sidestep import registry
from sidestep.audit.build import build_index
from sidestep.audit.index import open_index
from sidestep.audit.recipes import recipe, recipe_of
from sidestep.errors import MissingExtra

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


def ready(entry):
    parameters = inspect.signature(entry.load()).parameters.values()
    return all(p.default is not p.empty for p in parameters)


@pytest.fixture(params=[e.name for e in registry.entries("similarity") if ready(e)])
def name(request):
    try:
        recipe(request.param)
    except MissingExtra as why:
        pytest.skip(str(why))
    return request.param


def test_rows_are_of_length_1_and_each_picture_is_alone(name):
    made = recipe(name)
    rows = made.embed(IMAGES)
    assert rows.dtype == np.float32 and rows.ndim == 2
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)  # float32 over 1024 numbers
    # A network may round another batch otherwise.
    assert np.allclose(made.embed(IMAGES[1:2])[0] @ rows[1], 1, atol=1e-3)


def test_an_index_finds_its_recipe_again_by_name(name, tmp_path):
    from PIL import Image

    from sidestep.sources.collection import open_collection

    (tmp_path / "pictures").mkdir()
    Image.fromarray(IMAGES[0]).save(tmp_path / "pictures" / "a.png")
    build_index(
        open_collection(str(tmp_path / "pictures")), tmp_path / "index", recipe(name), side=32
    )
    assert recipe_of(open_index(tmp_path / "index")).name == recipe(name).name
