"""The sampling loop, its solvers and noise levels, and the traces that runs leave."""

from sidestep.guidance.denoiser import Denoiser, Level
from sidestep.sampling.loop import Frame, Run, Sample, advance, frames, sample
from sidestep.sampling.noise import (
    NoiseSchedule,
    edm_sigma,
    flow_sigma,
    snr_of_edm,
    snr_of_flow,
    time_of_snr,
)
from sidestep.sampling.probe import probe_and_sample
from sidestep.sampling.solvers import DDIM, DPMSolver, Solver
from sidestep.sampling.trace import Trace

__all__ = [
    "DDIM",
    "DPMSolver",
    "Denoiser",
    "Frame",
    "Level",
    "NoiseSchedule",
    "Run",
    "Sample",
    "Solver",
    "Trace",
    "advance",
    "edm_sigma",
    "flow_sigma",
    "frames",
    "probe_and_sample",
    "sample",
    "snr_of_edm",
    "snr_of_flow",
    "time_of_snr",
]
