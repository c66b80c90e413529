"""docs/cli.md, written from the commands themselves: `python -m pipeline_project.cli.reference > docs/cli.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Final

import typer

from pipeline_project.cli.main import build

Command = Any
"""A command of typer's; it brings its own copy of click, which has no public types."""

PREFACE: Final = """\
# Command line

`./pipeline <noun> <verb>`. Written from the commands themselves; `--help` says the same.

Every command takes `--json`: one JSON document on standard output, logs on standard error, failures as
`{"error": {"kind", "message"}}`. Those that need a database take `--database URL-or-NAME`.

| exit code | means |
|---|---|
| 0 | done |
| 1 | it failed; the message says what to do |
| 2 | the command line itself is wrong |
| 3 | the plan is stale: nothing of it holds any more |
| 4 | a check or an invariant does not hold |
| 5 | refused by a constraint; an import has taken the good rows all the same |
| 130 | interrupted |

`PIPELINE_LOG=json` turns log lines into JSON. `NO_COLOR` is honoured.
"""


def as_markdown(app: typer.Typer) -> str:
    """The whole page."""
    return "\n".join([PREFACE, *(_section(path, command) for path, command in commands(app))])


def commands(app: typer.Typer) -> Iterator[tuple[str, Command]]:
    """Every command with its full name, such as `pipeline items import`."""
    yield from _walk("pipeline", typer.main.get_command(app))


def _walk(path: str, command: Command) -> Iterator[tuple[str, Command]]:
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, child in command.commands.items():
        yield from _walk(f"{path} {name}", child)


def _section(path: str, command: Command) -> str:
    usage = " ".join([path, "[OPTIONS]", *(_metavar(argument) for argument in _parameters(command, "argument"))])
    rows = [f"| `{_metavar(argument)}` | {_cell(argument.help)} |" for argument in _parameters(command, "argument")]
    rows += [f"| {_option(option)} | {_cell(option.help)} |" for option in _parameters(command, "option")]
    lines = [f"## {path.removeprefix('pipeline ')}", "", f"`{usage}`", "", command.help.strip(), ""]
    if rows:
        lines += ["| | |", "|---|---|", *rows, ""]
    if command.epilog:
        lines += ["```sh", *examples_of(command), "```", ""]
    return "\n".join(lines)


def examples_of(command: Command) -> list[str]:
    """The commands of its example block."""
    return [line.strip() for line in (command.epilog or "").splitlines()[1:]]


def _parameters(command: Command, kind: str) -> list[Any]:
    return [parameter for parameter in command.params if parameter.param_type_name == kind and parameter.name != "help"]


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _option(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in option.opts)
    takes = "" if option.is_flag else f" `{option.metavar or option.name.upper()}`"
    return names + takes + (" (required)" if option.required else "")


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(as_markdown(build()))
