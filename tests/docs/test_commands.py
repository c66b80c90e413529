"""Every command that a page shows is one that the command line takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from pipeline_project.cli.main import build
from tests.docs.pages import DOCS, PAGES, blocks, name, read, without_blocks

WRITTEN = [page for page in PAGES if page != DOCS / "cli.md"]  # that one is printed by the command line itself


def commands(page: Path) -> list[str]:
    """Lines of sh blocks, and code between backticks, that begin with the wrapper or the console script."""
    text = read(page)
    lines = [line.split("#")[0].strip() for block in blocks(text, "sh") for line in block.splitlines()]
    quoted = re.findall(r"`((?:\./)?pipeline [^`]+)`", without_blocks(text))
    return [line for line in lines + quoted if re.match(r"(\./)?pipeline [a-z]", line)]


SHOWN = [pytest.param(command, id=f"{name(page)}: {command}") for page in WRITTEN for command in dict.fromkeys(commands(page))]


@pytest.mark.parametrize("command", SHOWN)
def test_a_command_that_is_shown_can_be_given(command: str) -> None:
    _, *arguments = shlex.split(re.sub(r"\bDAY\b", "2026-01-31", command.replace("...", "WORD")))
    parse(typer.main.get_command(build()), "pipeline", arguments)


def test_a_wrong_option_would_be_noticed() -> None:
    with pytest.raises(typer.TyperException):
        parse(typer.main.get_command(build()), "pipeline", ["pools", "list", "--colour"])


def parse(command: Any, called: str, arguments: list[str]) -> None:
    """Follow the nouns down to the verb and let it parse, without running anything. A bare verb is only spoken of."""
    while hasattr(command, "resolve_command") and arguments:
        with command.make_context(called, arguments, resilient_parsing=True) as context:
            called, command, arguments = command.resolve_command(context, arguments)
    if arguments not in ([], ["--help"]):
        command.make_context(called, arguments)
