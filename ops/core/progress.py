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


class Pace:
    """Turns many reports of progress into few lines. Each ``what`` has a clock of its own: work may be interleaved."""

    def __init__(self, interval_s: float) -> None:
        self.interval_s = interval_s
        self.begun: dict[str, tuple[float, int]] = {}
        self.last: dict[str, int] = {}
        self.said_s: dict[str, float] = {}

    def line(self, what: str, done: int, total: int, values: Mapping[str, float]) -> str | None:
        """The line to say now, or None where the last one is too fresh. The end of long work is always said."""
        now = time.monotonic()
        if what not in self.begun or done < self.last[what]:
            self.begun[what], self.said_s[what] = (now, done), now
        self.last[what] = done
        started_s, first = self.begun[what]
        due = now - self.said_s[what] >= self.interval_s or (done >= total and now - started_s >= 1.0)
        if not due:
            return None
        self.said_s[what] = now
        return progress_line(what, done, total, now - started_s, done - first, values)


class ConsoleReporter(SilentReporter):
    """A bar on a terminal, a line every ``interval_s`` seconds elsewhere: done/total, rate, time left, figures."""

    def __init__(self, stream: TextIO | None = None, interval_s: float = 5.0, prefix: str = "") -> None:
        self.stream = stream if stream is not None else sys.stderr
        self.live = self.stream.isatty()
        self.pace = Pace(0.2 if self.live else interval_s)
        self.prefix = prefix

    def progress(self, what: str, done: int, total: int, **values: float) -> None:
        line = self.pace.line(what, done, total, values)
        if line is None:
            return
        if self.live:
            self.stream.write(f"\r\x1b[K{self.prefix}{bar(done, total)} {line}" + ("\n" if done >= total else ""))
        else:
            self.stream.write(f"{self.prefix}{line}\n")
        self.stream.flush()

    def note(self, text: str) -> None:
        start = "\r\x1b[K" if self.live else ""
        self.stream.write(f"{start}{self.prefix}{text}\n")
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
