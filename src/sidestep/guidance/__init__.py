"""Guidance rules: small frozen objects that see two predictions a step and weigh them per sample.

Needs torch and nothing else.
"""

from sidestep.guidance.base import Guided, Needs, Prediction, Rule, combine, take
from sidestep.guidance.constant import Constant
from sidestep.guidance.dynamic import Dynamic
from sidestep.guidance.interval import Interval
from sidestep.guidance.schedules import DEFAULT_SCALE, Scheduled
from sidestep.guidance.static import Static

__all__ = [
    "DEFAULT_SCALE",
    "Constant",
    "Dynamic",
    "Guided",
    "Interval",
    "Needs",
    "Prediction",
    "Rule",
    "Scheduled",
    "Static",
    "combine",
    "take",
]
