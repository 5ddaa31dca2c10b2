"""What is worth recording of a stage, decided without MLflow: settings, figures, files to look at, which run is whose.

Nothing here copies images of a private set: of the outputs under ``data/`` only the JSON beside them is recorded, and
of a model folder everything but weights (those go to the registry) and arrays.
"""

import contextlib
import fcntl
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ops.core import files
from ops.core.progress import Reporter, SilentReporter

SECRET = re.compile(r"(?i)(^|_)(key|secret|password|token)$")
SHOWN = frozenset({".json", ".csv", ".html", ".png", ".svg", ".md"})
FORBIDDEN = re.compile(r"[^\w\-. :/]", re.ASCII)  # in MLflow's names of metrics and pictures
VALUE_CHARACTERS = 6000  # MLflow's limit of a parameter
TEXT_CHARACTERS = 500


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Settings as ``block.key: text``. Values of keys that end in key, secret, password or token are hidden."""
    flat: dict[str, str] = {}
    for key, value in params.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{name}.")
        elif SECRET.search(str(key)):
            flat[name] = "(hidden)"
        else:
            flat[name] = str(value)[:VALUE_CHARACTERS]
    return flat


def concerning(params: Mapping[str, Any], family: str | None) -> dict[str, Any]:
    """All settings but the blocks of other families: changing those makes no new attempt of this one."""
    families = params.get("families")
    others = set(families) - {family} if isinstance(families, Mapping) else set()
    return {name: value for name, value in params.items() if name not in others | {"families", "tracking"}}


def numbers(figures: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """The numeric figures as ``prefix/name: number``; truth values as 0 and 1, undefined ones (None) left out."""
    numeric = {name: value for name, value in figures.items() if isinstance(value, int | float | np.number | np.bool_)}
    return {FORBIDDEN.sub("_", f"{prefix}/{name}"): float(value) for name, value in numeric.items()}


def texts(figures: Mapping[str, Any], prefix: str) -> dict[str, str]:
    """The textual figures (a verdict, a status) as ``prefix.name: text``."""
    return {
        FORBIDDEN.sub("_", f"{prefix}.{name}"): value[:TEXT_CHARACTERS]
        for name, value in figures.items()
        if isinstance(value, str) and value
    }


def to_show(outs: Iterable[Path], root: Path) -> Iterator[tuple[Path, str]]:
    """Files worth recording among a stage's outputs, each with the folder it is recorded under."""
    for out in outs:
        inside = out.resolve().relative_to(root.resolve()).parts
        kinds = {".json"} if inside[0] == "data" else SHOWN
        for path in [out] if out.is_file() else sorted(out.rglob("*")):
            if path.is_file() and path.suffix in kinds and not path.name.startswith("."):
                yield path, path.parent.relative_to(root).as_posix()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on ``path`` (made if absent), across processes; a killed holder's lock is gone with it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


class RunBook:
    """``state/mlflow/runs.json``: the newest run of each family (or of each stage that has none), and its address."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "runs.json"

    def read(self) -> dict[str, dict[str, str]]:
        return dict(files.read_json(self.path)) if self.path.is_file() else {}

    def get(self, key: str, uri: str) -> str | None:
        """The newest run of ``key`` in the store ``uri``."""
        entry = self.read().get(key, {})
        return entry.get("run_id") if entry.get("uri") == uri else None

    def url(self, key: str) -> str | None:
        return self.read().get(key, {}).get("url")

    def put(self, key: str, **entry: str) -> None:
        with locked(self.path.with_suffix(".lock")):
            files.write_json(self.path, self.read() | {key: entry})


Write = Callable[[list[tuple[str, float, int, int]], list[tuple[str, np.ndarray, int]]], None]


class BufferedReporter(SilentReporter):
    """Collects curves and pictures and writes them in batches, spending under 1 % of the time it lives through.

    ``write(metrics, images)`` takes (name, value, time in ms, step) and (name, uint8 [h, w, 3], step). After a write
    that took c seconds the next comes no sooner than max(``flush_s``, 100 c) later. Progress is not recorded. No
    thread: what is buffered is written by the next call that is due, or by :meth:`flush`.
    """

    def __init__(self, write: Write, prefix: str, flush_s: float) -> None:
        self.write, self.prefix, self.flush_s = write, prefix, flush_s
        self.due_s = time.monotonic() + flush_s
        self.spent_s = 0.0
        self.buffered: list[tuple[str, float, int, int]] = []
        self.pictures: list[tuple[str, np.ndarray, int]] = []
        self.notes: list[str] = []

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        now_ms = int(time.time() * 1000)
        named = numbers(values, self.prefix)
        self.buffered += [(name, value, now_ms, step) for name, value in named.items()]
        self._if_due()

    def image(self, name: str, image_u8: np.ndarray, step: int) -> None:
        self.pictures.append((FORBIDDEN.sub("_", name), image_u8.copy(), step))
        self._if_due()

    def note(self, text: str) -> None:
        self.notes.append(text)

    def _if_due(self) -> None:
        if time.monotonic() >= self.due_s:
            self.flush()

    def flush(self) -> None:
        """Write all that is buffered, now. What could not be written stays buffered."""
        started_s = time.monotonic()
        if self.buffered or self.pictures:
            self.write(self.buffered, self.pictures)
            self.buffered, self.pictures = [], []
        cost_s = time.monotonic() - started_s
        self.spent_s += cost_s
        self.due_s = time.monotonic() + max(self.flush_s, 100 * cost_s)


def dataset_source(path: str) -> str:
    """The source of a dataset input, as MLflow stores it: the path in the workspace, never an absolute one."""
    return json.dumps({"uri": path})


def card(template: Path, **values: Any) -> str:
    """A model card in markdown. What could break a table's cell (bars, line ends) is taken out of every value."""
    import jinja2

    house = jinja2.Environment(loader=jinja2.FileSystemLoader(template.parent), undefined=jinja2.StrictUndefined)
    house.filters["cell"] = lambda value: " ".join(str(value).replace("|", "/").replace("<", "‹").split())
    return house.get_template(template.name).render(**values)


class Record(Protocol):
    """One stage's page in the book."""

    url: str | None

    @property
    def reporter(self) -> Reporter: ...

    def finish(self, figures: Mapping[str, Any], outs: Sequence[Path]) -> None:
        """Record what the stage came to; a stage that leaves without it counts as failed."""
