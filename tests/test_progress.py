"""Progress is said seldom, and honestly."""

from __future__ import annotations

import io

from ops.core import progress


def test_a_line_tells_done_rate_time_left_and_figures() -> None:
    line = progress.progress_line("train", 1200, 3000, elapsed_s=100.0, units=1000, values={"loss_d": 0.41234})
    assert line == "train 1,200/3,000 · 10.0 it/s · 3:00 left · loss_d 0.4123"


def test_interleaved_work_does_not_reset_each_others_clock(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    stream = io.StringIO()
    console = progress.ConsoleReporter(stream, interval_s=5.0)
    for second in range(12):
        clock[0] = float(second)
        console.progress("draw", second, 100)
        console.progress("write", second, 100)
    said = [line.split()[0] for line in stream.getvalue().splitlines()]
    assert said == ["draw", "write", "draw", "write"], "one line each at 5 s and at 10 s"


def test_short_work_says_nothing(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(progress.time, "monotonic", lambda: 7.0)
    stream = io.StringIO()
    console = progress.ConsoleReporter(stream)
    for done in range(11):
        console.progress("blink", done, 10)
    assert stream.getvalue() == ""


def test_several_reporters_hear_the_same() -> None:
    one, two = io.StringIO(), io.StringIO()
    tee = progress.TeeReporter([progress.ConsoleReporter(one), progress.ConsoleReporter(two)])
    tee.note("a warning")
    assert one.getvalue() == two.getvalue() == "a warning\n"
