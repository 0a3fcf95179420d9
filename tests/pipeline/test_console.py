from __future__ import annotations

import io

import pytest
from rich.console import Console as RichConsole

from pipeline.console import Console, Lines, duration


def shown(quiet: bool = False, terminal: bool = False) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(quiet=quiet, rich=RichConsole(file=stream, force_terminal=terminal, width=80)), stream


def use(console: Console) -> None:
    with console.progress("training", total=3) as advance:
        advance(2, loss=0.12345)
        advance()
    console.stage("train", cached=False, seconds=1.25)
    console.stage("observe", cached=True, seconds=0.01)
    console.table("Result [a]", ["form", "top1"], [["float", 0.5], ["integer [int8]", 0.25]])
    console.say("see [outputs]")
    console.warn("careful [here]")


def test_a_stream_gets_plain_lines_and_no_progress():
    console, stream = shown()
    use(console)
    text = stream.getvalue()
    assert "\x1b" not in text and "training" not in text
    assert "train           1.2 s" in text and "observe        cached" in text
    assert "integer [int8]" in text and "Result [a]" in text
    assert text.endswith("see [outputs]\nwarning: careful [here]\n")


def test_a_terminal_gets_progress():
    console, stream = shown(terminal=True)
    with console.progress("training", total=3) as advance:
        advance(2, loss=0.12345)
    assert "training" in stream.getvalue() and "loss 0.1235" in stream.getvalue()


def test_quiet_shows_warnings_only(caplog: pytest.LogCaptureFixture):
    console, stream = shown(quiet=True, terminal=True)
    use(console)
    assert stream.getvalue().count("\n") == 1 and "careful" in stream.getvalue()
    assert caplog.messages == ["careful [here]"]


def test_long_work_elsewhere_says_how_far_it_is(caplog: pytest.LogCaptureFixture, monkeypatch):
    seconds = iter([0.0, 10.0, 40.0, 60.0, 100.0])
    monkeypatch.setattr("pipeline.console.time.monotonic", lambda: next(seconds))
    caplog.set_level("INFO")
    stream = io.StringIO()
    lines = Lines("training", 1000, stream)
    lines.advance(100, loss=2.0)
    lines.advance(100, loss=0.25, epoch=3.0)  # the first after half a minute
    lines.advance(100)
    lines.advance(200)
    assert stream.getvalue().splitlines() == [
        "  training: 200 of 1,000 (20%), loss 0.25, epoch 3, 2 min 40 s left",
        "  training: 500 of 1,000 (50%), loss 0.25, epoch 3, 1 min 40 s left",
    ]
    assert caplog.messages == [line.strip() for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize(("quiet", "terminal"), [(False, False), (False, True), (True, False)])
def test_these_lines_go_to_standard_error_where_there_is_no_terminal(
    quiet, terminal, capsys, caplog, monkeypatch
):
    monkeypatch.setattr("pipeline.console.LINE_SECONDS", 0.0)
    caplog.set_level("INFO")
    console, _ = shown(quiet, terminal)
    with console.progress("observing") as advance:
        advance(64)
    assert capsys.readouterr().err == ("" if quiet or terminal else "  observing: 64\n")
    assert caplog.messages == ["observing: 64"]


def test_durations_read_as_people_say_them():
    assert [duration(s) for s in (0, 59.6, 61, 3599, 7260)] == [
        "0 min 0 s",
        "1 min 0 s",
        "1 min 1 s",
        "59 min 59 s",
        "2 h 1 min",
    ]


def test_a_prefix_says_whose_warnings_they_are():
    stream = io.StringIO()
    console = Console(quiet=True, rich=RichConsole(file=stream, width=80), prefix="rank 1: ")
    use(console)
    assert stream.getvalue() == "rank 1: warning: careful [here]\n"
