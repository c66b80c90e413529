"""Arguments and options that several commands take, and how their text is read; what cannot be read is a usage error."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer


def examples(*commands: str) -> str:
    """The last block of a command's --help. A test parses each of them: an example that is wrong is a defect."""
    return "Examples:\n" + "\n".join(f"  {command}" for command in commands)


def day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"expected a day such as 2026-01-31, found {text!r}") from None


def instant(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise typer.BadParameter(f"expected an ISO 8601 time with time zone, such as 2026-01-31T06:30:00+01:00, found {text!r}")
    return moment.astimezone(UTC)


def duration(text: str) -> int:
    """Seconds of `300` or of a duration as policies write it, such as 5m."""
    if re.fullmatch(r"[0-9]{1,9}", text):
        return int(text)
    from pipeline_project.core.policy import seconds

    try:
        return seconds(text)
    except ValueError as error:
        raise typer.BadParameter(f"expected whole seconds, or {error}, found {text!r}") from None


def json_text(text: str) -> Any:
    from pipeline_project.core.json_text import decode

    try:
        return decode(text)
    except ValueError as error:
        raise typer.BadParameter(f"expected JSON, found {text!r:.80} ({error})") from None


def claim(text: str) -> tuple[str, int]:
    """ITEM:TOKEN as `claim` gave them; the key may hold colons itself."""
    item, colon, token = text.rpartition(":")
    if not (colon and item and re.fullmatch(r"[0-9]{1,18}", token)):
        raise typer.BadParameter(f"expected ITEM:TOKEN, such as job-7:1, found {text!r}")
    return item, int(token)


Pool = Annotated[str, typer.Option("--pool", metavar="POOL", help="Name of the pool.")]
AnyPool = Annotated[str | None, typer.Option("--pool", metavar="POOL", help="Only this pool. Default: all.")]
PoolName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the pool.")]
Key = Annotated[str, typer.Argument(metavar="KEY", help="The item's key.")]
Keys = Annotated[list[str], typer.Argument(metavar="KEY...", help="Keys of items.")]
File = Annotated[Path, typer.Argument(metavar="PATH", help="A .csv, .jsonl, .ndjson or .parquet file; text also with .gz.")]
CycleKey = Annotated[str, typer.Argument(metavar="KEY", help="The cycle's key, or its beginning.")]
CyclePool = Annotated[str | None, typer.Option("--pool", metavar="POOL", help="Pool of the cycle, where a short KEY is ambiguous.")]
Day = Annotated[
    date | None, typer.Option("--day", parser=day, metavar="DAY", help="Day the cycle belongs to. Default: today, in PIPELINE_TIMEZONE.")
]
Reason = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why; it stands in the audit trail.")]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, max=1_000_000, help="Show at most so many.")]
Executor = Annotated[str, typer.Option("--executor", metavar="NAME", help="Name of the executor: who works on the item.")]
Ttl = Annotated[
    int | None,
    typer.Option("--ttl", parser=duration, metavar="S", help="Seconds (or 5m) the lease lasts. Default: the policy's ttl.lease."),
]
