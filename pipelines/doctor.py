"""``understudy doctor``: what this machine has and lacks, one line each, with what to do."""

import os
import platform
import shutil
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import rich
from rich.table import Table

PACKAGES = ("torch", "torchvision", "dagster", "dvc", "mlflow", "great-expectations", "scikit-image", "pillow")
NEEDED_DISK_GB = 5


class Line(NamedTuple):
    """One thing that was looked at. ``level``: ok, lacks (works without) or needed (does not)."""

    what: str
    level: str
    found: str
    todo: str = ""


def examine(root: Path) -> int:
    """Print every line; 1 where something needed is missing, else 0."""
    lines = [line for look in LOOKS for line in look(root)]
    marks = {"ok": "[green]✓[/]", "lacks": "[yellow]–[/]", "needed": "[red]✗[/]"}
    table = Table("", "", "found", "to do", box=None, header_style="dim")
    for line in lines:
        table.add_row(marks[line.level], line.what, line.found, line.todo)
    rich.print(table)
    return 1 if any(line.level == "needed" for line in lines) else 0


def _python(root: Path) -> list[Line]:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    fine = (3, 11) <= sys.version_info[:2] <= (3, 13)
    on_path = shutil.which("python") or "none"
    same = Path(on_path).parent == Path(sys.executable).parent
    return [
        Line(
            "Python 3.11 to 3.13",
            "ok" if fine else "needed",
            found,
            "" if fine else "make a virtual environment with one",
        ),
        Line(
            "'python' on PATH is this one",
            "ok" if same else "lacks",
            on_path,
            "" if same else "activate .venv before 'dvc repro'",
        ),
    ]


def _packages(root: Path) -> list[Line]:
    lines = []
    for name in PACKAGES:
        try:
            lines.append(Line(name, "ok", metadata.version(name)))
        except metadata.PackageNotFoundError:
            lines.append(Line(name, "needed", "not installed", "make setup"))
    return lines


def _torch_pair(root: Path) -> list[Line]:
    try:
        import torch
        import torchvision
    except (ImportError, RuntimeError) as error:
        return [
            Line(
                "torch and torchvision match",
                "needed",
                str(error).splitlines()[0],
                "install both from the ordinary index",
            )
        ]
    from ops.core import runtime

    have = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    name = torch.cuda.get_device_name() if have == "cuda" else have
    bf16 = runtime.has_bf16(torch.device(have))
    return [
        Line("torch and torchvision match", "ok", f"{torch.__version__} / {torchvision.__version__}"),
        Line(
            "accelerator",
            "ok" if have != "cpu" else "lacks",
            name,
            "" if have != "cpu" else "presets demo and faces suit a CPU",
        ),
        Line(
            "bfloat16 arithmetic",
            "ok" if bf16 else "lacks",
            "native" if bf16 else "none",
            "" if bf16 else "training takes about twice as long",
        ),
        Line("CPU cores", "ok", str(os.cpu_count())),
    ]


def _selection(root: Path) -> list[Line]:
    try:
        import dagster as dg
    except ImportError:
        return []  # said already
    try:
        dg.AssetSelection.from_string("a+")
    except TypeError:
        return [Line("Dagster's asset selection", "needed", "broken by an old antlr", "install hydra-core>=1.4.0rc1")]
    return [Line("Dagster's asset selection", "ok", "parses")]


def _shadow(root: Path) -> list[Line]:
    try:
        import mlflow
    except ImportError:
        return []  # said already
    fine = "site-packages" in str(mlflow.__file__)
    return [
        Line(
            "mlflow is the library",
            "ok" if fine else "needed",
            str(mlflow.__file__),
            "" if fine else "remove mlflow/__init__.py",
        )
    ]


def _tools(root: Path) -> list[Line]:
    compiler = next((found for name in ("g++", "clang++", "c++") if (found := shutil.which(name))), None)
    git = shutil.which("git")
    return [
        Line("git", "ok" if git else "needed", git or "none", "" if git else "install git"),
        Line(
            "C++ compiler",
            "ok" if compiler else "lacks",
            compiler or "none",
            "" if compiler else "SSIM runs uncompiled, about 4 times slower",
        ),
    ]


def _workspace(root: Path) -> list[Line]:
    free_gb = shutil.disk_usage(root if root.exists() else Path.cwd()).free / 1e9
    disk = Line("disk space", "ok" if free_gb > NEEDED_DISK_GB else "needed", f"{free_gb:.0f} GB free", "")
    if not (root / "dvc.yaml").is_file():
        return [disk, Line("workspace", "lacks", f"no dvc.yaml in {root}", "understudy new DIR --source SRC")]
    from ops.core.config import load_params
    from ops.core.errors import CallError
    from pipelines.settings import check

    try:
        check(load_params(root / "params.yaml"))
    except CallError as error:
        return [disk, Line("workspace", "needed", str(error), "mend params.yaml")]
    return [disk, Line("workspace", "ok", str(root))]


LOOKS: tuple[Callable[[Path], list[Line]], ...] = (
    _python,
    _packages,
    _torch_pair,
    _selection,
    _shadow,
    _tools,
    _workspace,
)
