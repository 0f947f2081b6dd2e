"""Pipelines of the adapters' tests."""

import pytest
from adapters.guiders import tiny
from adapters.tiny_sd import build
from reference import guided_pipelines


@pytest.fixture(params=list(guided_pipelines.ALL))
def family(request):
    """Those that take a guider, one after the other."""
    return tiny(request.param)


@pytest.fixture
def pipe():
    """A tiny Stable Diffusion of one's own."""
    return build()
