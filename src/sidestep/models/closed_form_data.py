"""Small worlds for the closed-form models: emoji pictures, captions, and what counts as a copy.

A world is a set of captions with targets among their pictures and a denoiser that is exact for it.
It shows in seconds what a rule does where the basin of attraction is known to exist, to have an
exit, or to have none.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sidestep.models.closed_form import Memorizer, SpikeAndSlab
from sidestep.models.embedded import drawings
