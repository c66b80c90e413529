"""What became of an input, as import and pull tell it: counts, and every row that was refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import typer

from pipeline_project.cli import console
from pipeline_project.core.errors import Refused

SHOWN: Final = 20
"""Refused rows a person is shown; --json has them all."""


def tell(title: str, receipt: Mapping[str, Any], *, as_json: bool) -> None:
    """Print the receipt; exit code 5 when a row was refused, although the good ones are in."""
    refused = receipt["refused"]
    human: list[Any] = [console.facts(title, {**receipt, "refused": len(refused)})]
    if refused:
        human.append(console.table("Refused", refused[:SHOWN], ["line", "item", "field", "expected", "found"]))
    if len(refused) > SHOWN:
        human.append(f"and {len(refused) - SHOWN:,} more; --json lists all")
    console.emit(receipt, as_json=as_json, human=human)
    if refused:
        if not as_json:
            console.err.print("The rows above were refused, all others are in. Correct them and give the input again.")
        raise typer.Exit(Refused.exit_code)
