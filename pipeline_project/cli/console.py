"""What every command shares: its --json and --database options, one document on stdout, everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from typing import Annotated, Any, Final

import typer
from rich import box
from rich.console import Console
from rich.table import Table

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout; logs stay on stderr.")]
DatabaseName = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="URL-or-NAME",
        help="PostgreSQL URL, or a database on the embedded server. Default: $PIPELINE_DATABASE_URL, else pipeline.",
    ),
]

STYLE: Final[dict[str, Any]] = {
    "title_justify": "left",
    "title_style": "bold",
    "box": box.SIMPLE_HEAD,
    "show_edge": False,
    "pad_edge": False,
    "collapse_padding": True,
}
WIDE: Final = 200
"""Columns of a table that goes into a file or a pipe, where no window sets the width."""

# Markup off: keys and payloads are shown as they are, square brackets included.
out = Console(highlight=False, soft_wrap=True, markup=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDE)
err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


def emit(document: Mapping[str, Any], *, as_json: bool, human: Iterable[Any] = ()) -> None:
    """Print the document as JSON, or the renderables meant for a person."""
    if as_json:
        # ASCII: it passes every pipe, whatever its encoding, and even what is not Unicode text.
        sys.stdout.write(json.dumps(document, default=_plain) + "\n")
        return
    for number, part in enumerate(human):
        if number and isinstance(part, Table):
            out.print()
        out.print(part)


def table(title: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> Table:
    """A table of equal rows; columns default to the first row's. Columns that would be empty are left out."""
    shown = Table(title=title, **STYLE)
    names = columns or (rows[0] if rows else ())
    kept = {name: [_cell(row.get(name)) for row in rows] for name in names}
    kept = {name: cells for name, cells in kept.items() if any(cells)}
    for name in kept:
        numeric = any(isinstance(row.get(name), int | float) for row in rows)
        shown.add_column(name.replace("_", " "), justify="right" if numeric else "left", overflow="fold")
    for line in zip(*kept.values(), strict=True):
        shown.add_row(*line)
    return shown


def facts(title: str, values: Mapping[str, Any]) -> Table:
    """One thing, a line a fact; what is not known has no line."""
    shown = Table(title=title, show_header=False, **STYLE)
    shown.add_column(no_wrap=True)
    shown.add_column(overflow="fold")
    for name, value in values.items():
        if value is not None:
            shown.add_row(name.replace("_", " "), _cell(value))
    return shown


def listing(title: str, rows: Sequence[Mapping[str, Any]], *, none: str) -> Table | str:
    """A table, or a sentence where there is nothing to show."""
    return table(title, rows) if rows else none


@contextmanager
def working(what: str) -> Iterator[Callable[[int], None]]:
    """A clock and a count on stderr while a person waits; nothing where nobody looks. The count is told by calling what it yields."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.fields[done]}"), TimeElapsedColumn()
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task(what, total=None, done="")
        yield lambda done: progress.update(task, done=f"{done:,}")


def brief(cycle_key: str) -> str:
    """As much of a cycle's key as a person needs; every command takes it."""
    return cycle_key[:8]


def percent(share: float) -> str:
    return f"{share:.2%}"


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds").replace("+00:00", "Z")
    if isinstance(value, dict | list):
        return json.dumps(value, default=_plain, ensure_ascii=False)
    return "" if value is None else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, date):
        return value.isoformat()
    if hasattr(value, "as_dict"):
        return value.as_dict()
    if hasattr(value, "tolist"):  # NumPy's arrays and numbers, recognised without the cost of its import
        return value.tolist()
    return str(value)
