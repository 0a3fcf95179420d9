"""Wrong arguments of a command: one line, status 2, the nearest name."""

from __future__ import annotations

import pytest

from pipeline.command_line import CommandLine


def parser() -> CommandLine:
    made = CommandLine(prog="command")
    commands = made.add_subparsers(dest="action", required=True)
    run = commands.add_parser("run")
    run.add_argument("--count", type=int)
    run.add_argument("--rate", type=float)
    run.add_argument("--colour", choices=["red", "green"])
    run.add_argument("file")
    commands.add_parser("list")
    return made


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "action: missing. Remedy: command --help says what there is"),
        (["lst"], "action=lst: did you mean 'list'? valid: list, run. Remedy: command --help says what"),
        (
            ["list", "--cout=3"],
            "--cout: no such argument; did you mean '--count'? valid: --colour, --count, ",
        ),
        (["list", "more"], "more: one argument too many. Remedy: "),
        (["run"], "file: missing. Remedy: command run --help says what there is"),
        (["run", "f", "--count", "x"], "--count='x': must be a whole number. Remedy: "),
        (["run", "f", "--rate", "x"], "--rate='x': must be a number. Remedy: "),
        (["run", "f", "--count"], "--count: needs a value. Remedy: "),
        (
            ["run", "f", "--colour", "gren"],
            "--colour=gren: did you mean 'green'? valid: green, red. Remedy: ",
        ),
    ],
)
def test_a_refusal_is_one_line_with_what_there_is(arguments, said, capsys):
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(arguments)
    stderr = capsys.readouterr().err
    assert ended.value.code == 2 and stderr.startswith(said) and stderr.count("\n") == 1
