from __future__ import annotations

import io

import pytest
from rich.console import Console as RichConsole

from pipeline.console import Console


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
