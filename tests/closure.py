"""The import closure of each stage's code, and a writer that puts it into dvc.yaml.

``python tests/closure.py`` rewrites the code dependencies of dvc.yaml; ``test_architecture.py`` holds them right.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
# Registries look their members up by name: the member is a dependency by pattern, the folder's own files by closure.
MEMBERS = {
    "ingest": ["ops/sources/${source.kind}.py"],
    "baseline": ["ops/classifiers"],
    "validate": ["ops/classifiers"],
    "train": ["ops/generators/${key}.py"],
    "sample": ["ops/generators/${key}.py"],
    "controls": ["ops/attacks"],
    "attack-images": ["ops/attacks"],
    "report": ["ops/templates"],
    "release": ["ops/templates"],
    "compare": ["ops/templates"],
}
STEPS = {
    "ingest": "ingestion", "prepare": "preparation", "baseline": "validation", "controls": "auditing",
    "train": "generation", "sample": "generation", "filter": "filtering", "validate": "validation",
    "attack-images": "auditing", "judge": "judgement", "report": "reporting", "release": "release",
    "compare": "reporting",
}  # fmt: skip


def module_file(name: str) -> Path | None:
    """The file of a module of ``ops``, or None."""
    path = ROOT / Path(*name.split("."))
    if path.with_suffix(".py").is_file():
        return path.with_suffix(".py")
    return path / "__init__.py" if (path / "__init__.py").is_file() else None


def imports(file: Path) -> set[Path]:
    """Files of ``ops`` that the file names in import statements, at any depth of its code."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.split(".")[0] == "ops":
                parts = name.split(".")
                prefixes = (".".join(parts[: i + 1]) for i in range(len(parts)))
                found |= {path for prefix in prefixes if (path := module_file(prefix))}
    return found


def closure(*files: Path) -> set[Path]:
    """Every file of ``ops`` that these reach by imports, themselves included."""
    seen: set[Path] = set()
    waiting = list(files)
    while waiting:
        file = waiting.pop()
        if file not in seen:
            seen.add(file)
            waiting += imports(file)
    return seen


def members(stage: str) -> list[Path]:
    """Files behind the stage's registry patterns: every member that could be named."""
    found: list[Path] = []
    for pattern in MEMBERS.get(stage, []):
        path = ROOT / pattern
        found += (
            sorted(path.rglob("*.py"))
            if path.is_dir()
            else sorted(path.parent.glob("[a-z]*.py"))
            if "$" in path.name
            else [path]
        )
    return found


def wanted(stage: str) -> list[str]:
    """Code dependencies that dvc.yaml should name for the stage, relative to the checkout, sorted."""
    by_name = set(members(stage))
    fixed = closure(ROOT / f"ops/{STEPS[stage]}.py") | {file for member in by_name for file in closure(member)}
    folders = [ROOT / pattern for pattern in MEMBERS.get(stage, []) if "$" not in pattern]
    keep = [f for f in fixed if f not in by_name and not any(f.is_relative_to(folder) for folder in folders)]
    keep += [beside for file in keep if (beside := file.with_suffix(".cpp")).is_file()]
    return sorted({str(file.relative_to(ROOT)) for file in keep if file.stat().st_size}) + MEMBERS.get(stage, [])


def body(stage: dict[str, Any]) -> dict[str, Any]:
    return stage.get("do", stage)


def rewrite() -> None:
    """Put the wanted code dependencies into dvc.yaml, after the data dependencies."""
    from pipelines.workspaces import read_yaml, write_yaml

    graph = read_yaml(ROOT / "dvc.yaml")
    for name, stage in graph["stages"].items():
        data = [dep for dep in body(stage)["deps"] if not dep.startswith("ops")]
        body(stage)["deps"] = [*data, *wanted(name)]
    write_yaml(ROOT / "dvc.yaml", graph)


def graph() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "dvc.yaml").read_text())


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    rewrite()
