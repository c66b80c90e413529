"""What every command shares: its --json and --database options, one document on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout; logs stay on stderr.")]
DatabaseName = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="URL-or-NAME",
        help="PostgreSQL URL, or a database on the embedded server. [default: $PIPELINE_DATABASE_URL, else pipeline]",
    ),
]

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def emit(document: Mapping[str, Any], *, as_json: bool, human: Iterable[Any] = ()) -> None:
    """Print the document as JSON, or the renderables meant for a person."""
    if as_json:
        sys.stdout.write(json.dumps(document, default=_plain, ensure_ascii=False) + "\n")
        return
    for part in human:
        out.print(part)


def table(title: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> Table:
    """A table of equal rows; columns default to the first row's."""
    names = list(columns or (rows[0] if rows else ()))
    shown = Table(title=title, title_justify="left", header_style="bold")
    for name in names:
        numeric = bool(rows) and isinstance(rows[0].get(name), int | float)
        shown.add_column(name.replace("_", " "), justify="right" if numeric else "left")
    for row in rows:
        shown.add_row(*(_cell(row.get(name)) for name in names))
    return shown


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict | list):
        return json.dumps(value, default=_plain, ensure_ascii=False)
    return str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, np.integer | np.floating | np.bool_):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return str(value)
