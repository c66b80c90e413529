"""The command line on a database of its own, in this process: what it prints, and how it ends."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline_project.cli import main
from pipeline_project.settings import Settings
from pipeline_project.store.database import Database


@dataclass(frozen=True, slots=True)
class CommandLine:
    """Call it with arguments for the JSON document they answer; `shown` is what a person sees."""

    captured: pytest.CaptureFixture[str]
    folder: Path

    def __call__(self, *arguments: str, exits: int = 0) -> dict[str, Any]:
        """The one document on stdout."""
        out, err = self._run([*arguments, "--json"], exits)
        assert out.endswith("\n") and out.count("\n") == 1, f"expected one document on one line, found {out!r} and {err!r}"
        document: dict[str, Any] = json.loads(out)
        return document

    def shown(self, *arguments: str, exits: int = 0) -> tuple[str, str]:
        """(stdout, stderr) without --json."""
        return self._run(list(arguments), exits)

    def file(self, name: str, content: str | bytes) -> str:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def rows(self, name: str, rows: Sequence[Mapping[str, Any]]) -> str:
        """A file of JSON lines."""
        return self.file(name, "\n".join(json.dumps(row) for row in rows))

    def _run(self, arguments: list[str], exits: int) -> tuple[str, str]:
        self.captured.readouterr()
        code = main.run(arguments)
        out, err = self.captured.readouterr()
        assert code == exits, f"{arguments}: expected exit code {exits}, found {code}: {out}{err}"
        return out, err


@pytest.fixture
def anywhere(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[CommandLine]:
    """The command line without a database, on the server of the tests."""
    monkeypatch.setenv("PIPELINE_HOME", str(settings.home))
    monkeypatch.setenv("PIPELINE_ARTIFACTS", str(tmp_path / "artifacts"))
    # Where there is a Dagster home, cycles are reported to it: the tests share a server, and no such home.
    monkeypatch.setattr(Settings, "dagster_home", property(lambda _: tmp_path / "dagster"))
    before = logging.root.handlers[:], logging.root.level
    yield CommandLine(capsys, tmp_path)
    logging.root.handlers[:], logging.root.level = before


@pytest.fixture
def pipeline(anywhere: CommandLine, database: Database, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The command line on an empty database with the schema."""
    monkeypatch.setenv("PIPELINE_DATABASE_URL", database.name)
    return anywhere


@pytest.fixture
def pool(pipeline: CommandLine) -> str:
    """A pool with three of a resource."""
    pipeline("pools", "create", "p")
    pipeline("resources", "import", pipeline.file("resources.csv", "key,capacity\ngpu,3\n"), "--pool", "p")
    return "p"


Submit = Callable[..., dict[str, Any]]


@pytest.fixture
def submit(pipeline: CommandLine, pool: str) -> Submit:
    """Import items given as key=weight, each wanting one gpu."""

    def imported(**weights: int) -> dict[str, Any]:
        rows = [{"key": key, "weight": weight, "demands": {"gpu": 1}} for key, weight in weights.items()]
        return pipeline("items", "import", pipeline.rows("items.jsonl", rows), "--pool", pool)

    return imported
