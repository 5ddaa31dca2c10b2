"""Workspaces: making one, its Dagster home, its lock, and the two lists in dvc.yaml that cannot loop."""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml.error import YAMLError

from ops.core import files
from ops.core.errors import CallError, UnderstudyError, explain
from pipelines.versioning import initialise

CHECKOUT = Path(__file__).resolve().parents[1]
PRESETS = CHECKOUT / "presets"
IGNORED = "# What a run reads and writes.\n" + "\n".join(
    f"/{name}/" for name in ("data", "models", "reports", "leaderboard", "release", "state", "dvc_plots")
)
FAMILY_METRICS = ("reports/{family}/utility.json", "reports/{family}/verdict.json")
COMMON_METRICS = ("reports/real.json", "reports/controls.json")

DAGSTER_YAML = """# Written by Understudy; yours to change.
telemetry: {enabled: false}
nux: {enabled: false}
concurrency:
  pools: {granularity: op, default_limit: 1}
  runs: {max_concurrent_runs: 4}
run_monitoring: {enabled: true, free_slots_after_run_end_seconds: 60}
"""


def yaml_round_trip() -> Any:
    """A YAML reader and writer that keeps comments and order."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def read_yaml(path: Path) -> Any:
    return yaml_round_trip().load(path.read_text())


def write_yaml(path: Path, value: Any) -> None:
    buffer = StringIO()
    yaml_round_trip().dump(value, buffer)
    files.write_text(path, buffer.getvalue())


def families(root: Path) -> list[str]:
    """The active families, in the order of params.yaml."""
    return list(read_yaml(root / "params.yaml")["families"])


def keep_metrics(root: Path) -> None:
    """Hold dvc.yaml's top-level ``metrics:`` and ``plots:`` equal to the active families (DVC cannot loop there)."""
    path, active = root / "dvc.yaml", families(root)
    graph = read_yaml(path)
    metrics = [*COMMON_METRICS, *(m.format(family=f) for f in active for m in FAMILY_METRICS)]
    if (graph.get("metrics"), graph.get("plots")) != (metrics, plots(active)):
        graph["metrics"], graph["plots"] = metrics, plots(active)
        write_yaml(path, graph)


def plots(active: list[str]) -> list[dict[str, Any]]:
    """What ``dvc plots show`` draws: confusion and losses of every active family that is fitted (none planted)."""
    from ops import generators

    fitted = [family for family in active if not getattr(generators.load(family), "PLANTED", False)]
    confusion = [
        {
            f"Confusion of {family}, TSTR": {
                "template": "confusion", "x": "actual",
                "y": {f"reports/{family}/pictures/predictions_tstr.csv": "predicted"},
            }
        }
        for family in fitted
    ]  # fmt: skip
    losses = {f"models/{family}/curves.csv": ["loss_d", "loss_g"] for family in fitted}
    return [*confusion, {"Training losses": {"x": "step", "y": losses}}] if fitted else []


def activate(root: Path, family: str) -> bool:
    """Add a family to the active ones; True where it was not. Raises CallError for an unknown one."""
    from ops import generators

    module = generators.load(family)
    path = root / "params.yaml"
    params = read_yaml(path)
    if family in params["families"]:
        return False
    params["families"][family] = {
        "sample_reads": getattr(module, "SAMPLE_READS", "models/{family}").format(family=family)
    }
    write_yaml(path, params)
    keep_metrics(root)
    return True


def source_block(source: str, root: Path) -> dict[str, Any]:
    """The ``source:`` block for what a person typed: a folder, an archive, ``torchvision:NAME`` or ``racecars``."""
    if source == "racecars":
        return {}
    if source.startswith("torchvision:"):
        return {
            "kind": "torchvision",
            "dataset": source.partition(":")[2],
            "root": "data/torchvision",
            "download": True,
        }
    path = Path(source).expanduser().resolve()
    if not path.exists():
        raise CallError(
            explain(expected="a folder, an archive, torchvision:NAME or racecars", found=source, todo="check the path")
        )
    kind = "folder" if path.is_dir() else "archive"
    return {"kind": kind, "path": os.path.relpath(path, root)}


def assign(params: Any, setting: str) -> None:
    """Apply one ``key.path=value`` (value in YAML). Raises CallError where it has another form or no such block."""
    key, equals, text = setting.partition("=")
    if not equals:
        raise CallError(explain(expected="KEY=VALUE after -S", found=setting, todo="write e.g. -S sample.images=4000"))
    *blocks, last = key.strip().split(".")
    place = params
    for name in blocks:
        if not isinstance(place, Mapping) or not isinstance(place.get(name), Mapping):
            raise CallError(
                explain(expected=f"a block in params.yaml for '{key}'", found=f"no '{name}'", todo="see params.yaml")
            )
        place = place[name]
    try:
        place[last] = yaml_round_trip().load(text)
    except YAMLError as error:
        raise CallError(explain(expected=f"YAML after {key}=", found=text, todo="quote it, or mend it")) from error


def merge(params: Any, overlay: Mapping[str, Any]) -> None:
    """Lay a preset over the settings: mappings merge, everything else replaces. A ``source`` replaces whole."""
    for key, value in overlay.items():
        if key != "source" and isinstance(value, Mapping) and isinstance(params.get(key), Mapping):
            merge(params[key], value)
        else:
            params[key] = value


def presets() -> list[str]:
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def create(root: Path, source: str, preset: str, settings: Sequence[str] = ()) -> None:
    """Make a workspace in ``root``: settings, graph, git and DVC. Raises CallError where one is there already."""
    root = root.expanduser().resolve()
    if (root / "params.yaml").exists():
        raise CallError(
            explain(expected=f"no workspace in {root} yet", found="params.yaml", todo="name another folder")
        )
    if preset not in presets():
        raise CallError(
            explain(expected=f"a preset among {', '.join(presets())}", found=f"'{preset}'", todo="name one of them")
        )
    from pipelines.settings import check

    params = read_yaml(CHECKOUT / "params.yaml")
    merge(params, read_yaml(PRESETS / f"{preset}.yaml") or {})
    if block := source_block(source, root):
        params["source"] = {**block, **_source_options(params.get("source"), block)}
    params["prepare"]["split_key"] = secrets.token_hex(16)
    for setting in settings:
        assign(params, setting)
    check(params)
    root.mkdir(parents=True, exist_ok=True)
    files.write_text(root / ".gitignore", IGNORED + "\n")
    files.write_text(root / ".dvcignore", ".gitignore\n__pycache__\n")
    write_yaml(root / "params.yaml", params)
    write_yaml(root / "dvc.yaml", _graph_for(root, params))
    keep_metrics(root)
    initialise(root)


def _source_options(preset_source: Any, block: Mapping[str, Any]) -> dict[str, Any]:
    """Options that a preset gives for files (how subjects are named, which classes); folder and archive share them."""
    files_of_ours = ("folder", "archive")
    if isinstance(preset_source, Mapping) and {preset_source.get("kind"), block["kind"]} <= set(files_of_ours):
        return {key: value for key, value in preset_source.items() if key not in block}
    return {}


def _graph_for(root: Path, params: Any) -> Any:
    """The checkout's dvc.yaml with code paths seen from ``root`` and the source among the inputs of ``ingest``."""
    graph = read_yaml(CHECKOUT / "dvc.yaml")
    for stage in graph["stages"].values():
        body = stage.get("do", stage)
        body["deps"] = [seen for dep in body["deps"] for seen in _seen_from(root, dep)]
    if params["source"].get("path"):
        graph["stages"]["ingest"]["deps"].append("${source.path}")  # resolved by DVC: follows params.yaml
    return graph


def _seen_from(root: Path, dep: str) -> list[str]:
    """A code path as the workspace sees it. Folders become their files: .dvcignore does not reach outside a workspace,
    and compiled bytecode would count as a change."""
    if not dep.startswith("ops/"):
        return [dep]
    path = CHECKOUT / dep
    inside = [file for file in sorted(path.rglob("*")) if file.is_file() and "__pycache__" not in file.parts]
    return [os.path.relpath(file, root) for file in (inside if path.is_dir() else [path])]


def dagster_home(root: Path) -> Path:
    """The workspace's Dagster home (made on first use), also set in this process's environment."""
    home = root / "state/dagster"
    if not (home / "dagster.yaml").exists():
        home.mkdir(parents=True, exist_ok=True)
        files.write_text(home / "dagster.yaml", DAGSTER_YAML)
    os.environ["DAGSTER_HOME"] = str(home)
    return home


@contextlib.contextmanager
def only_one(root: Path, what: str) -> Iterator[None]:
    """Hold the workspace's lock (free at once after kill -9). Raises UnderstudyError where another holds it."""
    (root / "state").mkdir(parents=True, exist_ok=True)
    with (root / "state/lock").open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            holder = handle.read().strip() or "another process"
            raise UnderstudyError(
                explain(expected=f"nobody else at work in {root}", found=holder, todo="wait for it, or stop it")
            ) from None
        handle.truncate(0)
        handle.write(f"{what}, process {os.getpid()}")
        handle.flush()
        yield
