"""`pipeline doctor`: is everything in place, and what to do where it is not."""

from __future__ import annotations

from typing import Final

import typer

from pipeline_project.cli import console, session
from pipeline_project.cli.arguments import examples

EXAMPLES: Final = examples("pipeline doctor", "pipeline doctor --database postgresql://me@db.example.org/work --json")


def doctor(database: console.DatabaseName = None, as_json: console.Json = False) -> None:
    """Look at everything that a cycle needs, and say what to do where something is wrong. Exit code 1 when something is."""
    from pipeline_project.cli.examination import examine

    with session.logged() as settings, console.working("examining"):
        findings = [finding.as_dict() for finding in examine(database, settings)]
    healthy = all(finding["status"] != "fail" for finding in findings)
    human = [console.table("Doctor", findings, ["status", "name", "found", "advice"])]
    console.emit({"healthy": healthy, "checks": findings}, as_json=as_json, human=human)
    if not healthy:
        raise typer.Exit(1)
