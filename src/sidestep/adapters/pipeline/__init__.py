"""Guidance rules inside diffusers pipelines: `sidestep.guide`."""

from sidestep.adapters.pipeline.handle import Guide, guide, handle_of
from sidestep.adapters.pipeline.layouts import Layout

__all__ = ["Guide", "Layout", "guide", "handle_of"]
