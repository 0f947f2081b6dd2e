from sidestep.audit.watch.copy_watch import CopyWatch
from sidestep.audit.watch.loggers import Logger, Shown, TensorBoard, WandB
from sidestep.audit.watch.report import GivenBack, Rate, Report

__all__ = ["CopyWatch", "GivenBack", "Logger", "Rate", "Report", "Shown", "TensorBoard", "WandB"]
