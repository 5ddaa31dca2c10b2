"""How long work speaks: one small protocol, with a silent speaker, a console speaker and one that tells several.

Stages call a :class:`Reporter`; Dagster, MLflow and the terminal each bring their own. Reporting must cost nothing per
step: speakers throttle themselves.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Protocol, TextIO

import numpy as np


class Reporter(Protocol):
    """What a stage may say while it works."""

    def progress(self, what: str, done: int, total: int, **values: float) -> None:
        """``done`` of ``total`` units of ``what`` are finished; ``values`` are current figures (losses)."""

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Figures of one step, for curves."""

    def image(self, name: str, image_u8: np.ndarray, step: int) -> None:
        """A picture to look at: uint8 [h, w, 3]."""

    def note(self, text: str) -> None:
        """One sentence worth keeping (a warning, a decision)."""


class SilentReporter:
    """Says nothing; the default, so that no stage needs ``if reporter``."""

    def progress(self, what: str, done: int, total: int, **values: float) -> None: ...

    def metrics(self, values: Mapping[str, float], step: int) -> None: ...

    def image(self, name: str, image_u8: np.ndarray, step: int) -> None: ...

    def note(self, text: str) -> None: ...


class TeeReporter:
    """Tells several reporters the same."""

    def __init__(self, reporters: Sequence[Reporter]) -> None:
        self.reporters = list(reporters)

    def progress(self, what: str, done: int, total: int, **values: float) -> None:
        for reporter in self.reporters:
            reporter.progress(what, done, total, **values)

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        for reporter in self.reporters:
            reporter.metrics(values, step)

    def image(self, name: str, image_u8: np.ndarray, step: int) -> None:
        for reporter in self.reporters:
            reporter.image(name, image_u8, step)

    def note(self, text: str) -> None:
        for reporter in self.reporters:
            reporter.note(text)


class ConsoleReporter(SilentReporter):
    """A bar on a terminal, a line every ``interval_s`` seconds elsewhere: done/total, rate, time left, figures."""

    def __init__(self, stream: TextIO | None = None, interval_s: float = 5.0, prefix: str = "") -> None:
        self.stream = stream if stream is not None else sys.stderr
        self.live = self.stream.isatty()
        self.interval_s = 0.2 if self.live else interval_s
        self.prefix = prefix
        self.what, self.started_s, self.first, self.said_s = "", 0.0, 0, 0.0

    def progress(self, what: str, done: int, total: int, **values: float) -> None:
        now = time.monotonic()
        if what != self.what or done < self.first:
            self.what, self.started_s, self.first, self.said_s = what, now, done, now if not self.live else 0.0
        if now - self.said_s < self.interval_s and done < total:
            return
        self.said_s = now
        line = progress_line(what, done, total, now - self.started_s, done - self.first, values)
        if self.live:
            self.stream.write(f"\r\x1b[K{self.prefix}{bar(done, total)} {line}" + ("\n" if done >= total else ""))
        else:
            self.stream.write(f"{self.prefix}{line}\n")
        self.stream.flush()

    def note(self, text: str) -> None:
        self.stream.write(f"{self.prefix}{text}\n")
        self.stream.flush()


def bar(done: int, total: int, width: int = 24) -> str:
    """A bar of ``width`` characters."""
    filled = width * done // max(total, 1)
    return "█" * filled + "░" * (width - filled)


def progress_line(
    what: str, done: int, total: int, elapsed_s: float, units: int, values: Mapping[str, float] | None = None
) -> str:
    """``train 1200/3000 · 14.1 it/s · 2:08 left · loss_d 0.41``."""
    parts = [f"{what} {done:,}/{total:,}"]
    if units > 0 and elapsed_s > 0:
        rate = units / elapsed_s
        minutes, seconds = divmod(int((total - done) / rate), 60)
        parts += [f"{rate:.1f} it/s", f"{minutes}:{seconds:02d} left"]
    parts += [f"{name} {value:.4g}" for name, value in (values or {}).items()]
    return " · ".join(parts)
