"""docs/cli.md and the examples of --help against the commands themselves."""

from __future__ import annotations

import shlex

import pytest

from pipeline_project.cli import main, reference
from pipeline_project.cli.run import PROJECT

COMMANDS = dict(reference.commands(main.build()))
WITHOUT_JSON = {"pipeline exec", "pipeline test"}
"""They become another program, whose output is its own."""


def test_the_page_is_what_the_commands_say() -> None:
    page = (PROJECT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert page == reference.as_markdown(main.build()), "write it again: python -m pipeline_project.cli.reference > docs/cli.md"


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_is_explained_and_teaches_by_example(path: str) -> None:
    command = COMMANDS[path]
    examples = reference.examples_of(command)
    assert command.help
    assert examples
    assert all(example.startswith(path) for example in examples)
    assert all(parameter.help for parameter in command.params if parameter.name != "arguments"), path


@pytest.mark.parametrize("path", sorted(COMMANDS.keys() - WITHOUT_JSON))
def test_every_command_has_json(path: str) -> None:
    assert any("--json" in parameter.opts for parameter in COMMANDS[path].params)


@pytest.mark.parametrize("path", COMMANDS)
def test_every_example_can_be_parsed(path: str) -> None:
    for example in reference.examples_of(COMMANDS[path]):
        words = shlex.split(example, comments=True)
        words = words[: words.index(">")] if ">" in words else words
        COMMANDS[path].make_context(path, words[len(path.split()) :])
