"""Loading says nothing that does not concern the user, and what does is still said."""

import logging

import diffusers.utils.logging as diffusers_logging
import pytest
import transformers.utils.logging as transformers_logging

from sidestep.adapters.quiet import quiet
from sidestep.adapters.stable_diffusion import load
from sidestep.models import embedded

LIBRARIES = (diffusers_logging, transformers_logging)


def state():
    handlers = [h for n in ("diffusers", "transformers") for h in logging.getLogger(n).handlers]
    return (
        [library.is_progress_bar_enabled() for library in LIBRARIES],
        [library.get_verbosity() for library in LIBRARIES],
        [list(h.filters) for h in handlers],
    )


def test_loading_writes_nothing(capfd):
    before = state()
    load(embedded.folder())
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")
    assert state() == before


def test_a_failure_restores_everything_too():
    before = state()
    with pytest.raises(ZeroDivisionError), quiet():
        assert not any(library.is_progress_bar_enabled() for library in LIBRARIES)
        raise ZeroDivisionError
    assert state() == before


def test_bars_that_were_off_stay_off():
    diffusers_logging.disable_progress_bar()
    try:
        with quiet():
            pass
        assert not diffusers_logging.is_progress_bar_enabled()
    finally:
        diffusers_logging.enable_progress_bar()


@pytest.mark.parametrize("name", ["diffusers", "transformers"])
def test_only_the_advice_is_held_back(name):
    heard = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    try:
        with quiet():
            logger.warning("`CLIPImageProcessor` requires torchvision (not installed)")
            logger.warning("some weights were newly initialized")
            logger.error("broken")
    finally:
        logger.removeHandler(handler)
    assert heard == ["some weights were newly initialized", "broken"]
