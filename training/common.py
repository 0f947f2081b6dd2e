"""What both training stages share: processes, checkpoints, the moving average, the log."""

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

WORK = Path(__file__).parents[1] / "out/training"


def launch(worker: Callable[..., None], *args: Any) -> None:
    """Run `worker(rank, world, *args)`: on a GPU one process, on a CPU one process per core.

    One-thread processes with an all-reduce train small nets up to twice as fast as one process
    with many threads.
    """
    world = 1 if torch.cuda.is_available() else max(1, len(os.sched_getaffinity(0)))
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ["MASTER_PORT"] = str(_free_port())
    if world == 1:
        worker(0, 1, *args)
    else:
        mp.spawn(_entry, args=(world, worker, args), nprocs=world)  # type: ignore[no-untyped-call]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _entry(rank: int, world: int, worker: Callable[..., None], args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world)
    worker(rank, world, *args)
    dist.destroy_process_group()


def average_gradients(modules: list[nn.Module], world: int) -> None:
    """Mean of the gradients over all processes, one transfer for all tensors."""
    if world == 1:
        return
    grads = [p.grad for m in modules for p in m.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in grads])
    dist.all_reduce(flat)
    flat /= world
    offset = 0
    for g in grads:
        g.copy_(flat[offset : offset + g.numel()].view_as(g))
        offset += g.numel()


class MovingAverage:
    """Exponential moving average of the weights, with the usual warm-up of its decay."""

    def __init__(self, modules: list[nn.Module], decay: float) -> None:
        self.decay = decay
        self.params = [p for m in modules for p in m.parameters()]
        self.shadow = [p.detach().clone() for p in self.params]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the present weights."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.shadow, [p.detach() for p in self.params], 1 - decay)

    @torch.no_grad()
    def restart(self) -> None:
        """Give the averaged weights to the modules, to train on from there."""
        torch._foreach_copy_([p.detach() for p in self.params], self.shadow)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the averaged weights with the present ones; twice is nothing."""
        for p, s in zip(self.params, self.shadow, strict=True):
            kept = p.detach().clone()
            p.copy_(s)
            s.copy_(kept)


def save_checkpoint(
    folder: Path,
    step: int,
    modules: dict[str, nn.Module],
    ema: MovingAverage,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Everything a resumed run needs, as one safetensors file put in place by a rename."""
    tensors: dict[str, Tensor] = {}
    for name, module in modules.items():
        tensors |= {f"{name}/{k}": v.contiguous() for k, v in module.state_dict().items()}
    tensors |= {f"ema/{i}": s.contiguous() for i, s in enumerate(ema.shadow)}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{i}/{k}": v.contiguous() for k, v in state.items()}
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / "checkpoint.tmp"
    save_file(tensors, temporary, metadata={"step": str(step)})
    os.replace(temporary, folder / "checkpoint.safetensors")


def load_checkpoint(
    folder: Path,
    modules: dict[str, nn.Module],
    ema: MovingAverage,
    optimizer: torch.optim.Optimizer,
) -> int:
    """Restore what `save_checkpoint` wrote; the step to go on from, 0 where there is none."""
    path = folder / "checkpoint.safetensors"
    if not path.is_file():
        return 0
    tensors = load_file(path)
    for name, module in modules.items():
        prefix = f"{name}/"
        module.load_state_dict(
            {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        )
    for i, s in enumerate(ema.shadow):
        s.copy_(tensors[f"ema/{i}"])
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, i, field = key.split("/")
            state.setdefault(int(i), {})[field] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return int(json.loads(_header(path))["__metadata__"]["step"])


def _header(path: Path) -> str:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        return file.read(size).decode()


class Log:
    """One JSON line per report, in a file and on the screen, with the seconds since the start."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.start = path, time.monotonic()

    def write(self, **fields: Any) -> None:
        """Append one line."""
        line = json.dumps(fields | {"seconds": round(time.monotonic() - self.start, 1)})
        print(line, flush=True)
        with self.path.open("a") as file:
            file.write(line + "\n")


def learning_rate(step: int, total: int, peak: float, warmup: int = 200) -> float:
    """Linear warm-up, then cosine to 2 % of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    cosine = 0.5 * (1 + torch.cos(torch.tensor(done * torch.pi)).item())
    return peak * (0.02 + 0.98 * cosine)
