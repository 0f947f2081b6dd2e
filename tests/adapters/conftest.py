"""Pipelines that take a guider."""

import pytest
from adapters.guiders import tiny
from reference import guided_pipelines


@pytest.fixture(params=list(guided_pipelines.ALL))
def family(request):
    """One after the other."""
    return tiny(request.param)
