"""The only place that speaks to DVC: the resolved graph, what is current, commits, and the versions of outputs."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from ops.core.errors import CallError, UnderstudyError, explain

LOCK_TRIES = 20
CODE = Path(__file__).resolve().parents[1] / "ops"


@dataclass(frozen=True)
class StageNode:
    """One resolved stage of dvc.yaml. Paths are as written there, relative to the workspace."""

    address: str
    cmd: str
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    params: tuple[str, ...]

    @property
    def stage(self) -> str:
        return self.address.split("@")[0]

    @property
    def family(self) -> str | None:
        family = self.address.partition("@")[2]
        return family or None


class Versioning:
    """DVC in one workspace. Opens the repository anew for each act, because DVC caches what it has read."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root).resolve()
        self._lock_read: tuple[str, dict[str, dict[str, Any]]] = ("", {})  # dvc.lock's text, and what it says
        if not (self.root / "dvc.yaml").is_file():
            found = "no dvc.yaml in it"
            raise CallError(
                explain(expected=f"a workspace in {self.root}", found=found, todo="make one with 'understudy new'")
            )

    @contextlib.contextmanager
    def _repo(self) -> Iterator[Any]:
        import logging

        from dvc.exceptions import DvcException
        from dvc.repo import Repo

        logging.getLogger("dvc").setLevel(logging.WARNING)  # "Updating lock file" after every stage tells nobody much

        try:
            with contextlib.chdir(self.root), Repo() as repo:  # DVC names stages as seen from where one stands
                yield repo
        except DvcException as error:
            raise UnderstudyError(f"DVC refused in {self.root}: {' '.join(str(error).split())}") from error

    @cached_property
    def nodes(self) -> list[StageNode]:
        """Every stage, foreach resolved, in the order of dvc.yaml."""
        with self._repo() as repo:
            return [self._node(stage) for stage in repo.index.stages if getattr(stage, "cmd", None)]

    @staticmethod
    def _node(stage: Any) -> StageNode:
        deps, params = [], []
        for dep in stage.deps:
            if hasattr(dep, "params"):
                params += [str(name) for name in dep.params]
            elif dep.def_path not in deps:
                deps.append(dep.def_path)
        outs = tuple(out.def_path for out in stage.outs)
        return StageNode(stage.addressing, str(stage.cmd), tuple(deps), outs, tuple(params))

    def node(self, stage: str, family: str | None = None) -> StageNode:
        """The stage by name. Raises UnderstudyError where dvc.yaml has none."""
        address = f"{stage}@{family}" if family else stage
        for node in self.nodes:
            if node.address == address:
                return node
        known = ", ".join(node.address for node in self.nodes)
        raise CallError(
            explain(expected=f"stage '{address}' in dvc.yaml", found=known, todo="add the family to 'families'")
        )

    def changes(self, addresses: list[str] | None = None) -> dict[str, Any]:
        """What is not current: address → DVC's reasons. Empty when everything agrees with dvc.lock."""
        with self._repo() as repo:
            return dict(_patiently(lambda: repo.status(targets=addresses)))

    def commit(self, address: str) -> None:
        """Record the stage's outputs as the result of its present inputs. Call right after its success, never else."""
        with self._repo() as repo:
            _patiently(lambda: repo.commit(target=address, force=True))

    def locked(self) -> dict[str, dict[str, Any]]:
        """dvc.lock's stages: address → {cmd, deps, params, outs}. Empty where there is no lock yet."""
        path = self.root / "dvc.lock"
        if not path.is_file():
            return {}
        text = path.read_text()
        if text != self._lock_read[0]:
            self._lock_read = text, dict((_safe_yaml(text) or {}).get("stages") or {})
        return dict(self._lock_read[1])

    def out_versions(self, address: str) -> dict[str, str]:
        """Output path → md5 that dvc.lock holds for the stage."""
        entry = self.locked().get(address, {})
        return {out["path"]: out["md5"] for out in entry.get("outs", [])}

    def written(self) -> dict[str, str]:
        """Path → md5 of every output that dvc.lock holds, whatever stage wrote it."""
        return {out["path"]: out["md5"] for entry in self.locked().values() for out in entry.get("outs", [])}

    def code_version(self, node: StageNode, params: Mapping[str, Any]) -> str:
        """Digest of the stage's code files, resolved params and command: what makes it stale besides its data."""
        code = {dep: (self.root / dep).resolve() for dep in node.deps}
        files = {dep: _content_digest(path) for dep, path in code.items() if path.is_relative_to(CODE)}
        values = {name: _descend(params, name) for name in node.params}
        text = json.dumps({"cmd": node.cmd, "code": files, "params": values}, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _safe_yaml(text: str) -> Any:
    """Parse with the safe loader, in C where libyaml is there: ten times faster on a lock of a thousand lines."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _content_digest(path: Path) -> str:
    """Digest of a file, or of every source file in a folder."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    sources = sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    text = "".join(f"{file.relative_to(path)} {_content_digest(file)}\n" for file in sources)
    return hashlib.sha256(text.encode()).hexdigest()


def _descend(params: Mapping[str, Any], name: str) -> Any:
    value: Any = params
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _patiently(act: Any) -> Any:
    """Retry while another process holds DVC's lock (DVC itself waits 3 s)."""
    from dvc.lock import LockError

    for attempt in range(LOCK_TRIES):
        try:
            return act()
        except LockError:
            if attempt == LOCK_TRIES - 1:
                raise
            time.sleep(0.5)
    raise AssertionError("unreachable")


def overlap(one: str, other: str) -> bool:
    """Whether one path contains the other (``reports/F/attacks`` holds ``reports/F/attacks/images``)."""
    a, b = PurePosixPath(one), PurePosixPath(other)
    return a == b or a in b.parents or b in a.parents


def initialise(root: Path) -> None:
    """Put git and DVC into a new workspace; DVC's telemetry stays off. Raises UnderstudyError where either refuses."""
    if not (root / ".git").exists():
        _call(root, "git", "init", "-q")
    if not (root / ".dvc").exists():
        _call(root, sys.executable, "-m", "dvc", "init", "-q")
    _call(root, sys.executable, "-m", "dvc", "config", "core.analytics", "false")


def _call(root: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UnderstudyError(f"'{' '.join(command)}' failed in {root}: {last}")


def git_revision(root: Path) -> str | None:
    """The commit that the workspace stands on, or None outside git."""
    head = _git(root, "rev-parse", "HEAD")
    return head.strip() if head else None


def _git(root: Path, *arguments: str) -> str | None:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


def in_experiment() -> bool:
    """Whether ``dvc exp run`` drives this process: then nothing outside the experiment's copy may be written."""
    return "DVC_EXP_NAME" in os.environ
