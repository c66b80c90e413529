"""`pipeline feed`: what happened, in the order of commits, without gaps, for programs that follow it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline_project.cli import console, session
from pipeline_project.cli.arguments import AnyPool, examples

if TYPE_CHECKING:
    from pipeline_project.engine.feed import Page

app = typer.Typer(
    no_args_is_help=True, help="The feed: moves of items and events of pools, in the order of commits, for programs that follow."
)

Consumer = Annotated[str, typer.Option("--consumer", metavar="NAME", help="Whose cursor: any name; each has its own.")]
Most = Annotated[int, typer.Option("--limit", metavar="N", min=1, max=100_000, help="Rows of a page at most.")]
COLUMNS = ["position", "at", "pool", "event", "item", "from_state", "to_state", "cycle", "token", "actor", "reason"]


@app.command(
    epilog=examples("pipeline feed read --consumer billing --json", "pipeline feed read --consumer billing --pool nightly --limit 100")
)
def read(
    consumer: Consumer, pool: AnyPool = None, limit: Most = 1000, database: console.DatabaseName = None, as_json: console.Json = False
) -> None:
    """The next rows after the consumer's cursor. They come again until they are acknowledged.

    `until` is the position to acknowledge when all of them are done.
    """
    with session.engine(database, pool=pool) as engine:
        page = engine.feed.read(consumer, pool=pool, most=limit)
    human = [console.listing(f"Feed after {page.after}", [_shown(row) for row in page.rows], none="nothing new")]
    if page.rows:
        human.append(f"when they are done: pipeline feed ack {page.until} --consumer {consumer}")
    console.emit({"consumer": consumer, **_document(page)}, as_json=as_json, human=human)


@app.command(epilog=examples("pipeline feed ack 7421/1093 --consumer billing", "pipeline feed ack 0/0 --consumer billing --back"))
def ack(
    position: Annotated[str, typer.Argument(metavar="POSITION", help="`until` of the page that is done.")],
    consumer: Consumer,
    back: Annotated[bool, typer.Option("--back", help="Go back on purpose: what follows comes again.")] = False,
    database: console.DatabaseName = None,
    as_json: console.Json = False,
) -> None:
    """Everything up to this position is done. A position before the cursor changes nothing, unless --back."""
    from pipeline_project.core.positions import Position

    with session.engine(database) as engine:
        moved = engine.feed.acknowledge(consumer, Position.of(position), backwards=back)
    document = {"consumer": consumer, "position": position, "moved": moved}
    console.emit(document, as_json=as_json, human=[f"{consumer} " + (f"is at {position}" if moved else "was that far already")])


@app.command(
    epilog=examples("pipeline feed follow --consumer billing", "pipeline feed follow --consumer billing --pool nightly --seconds 60")
)
def follow(
    consumer: Consumer,
    pool: AnyPool = None,
    limit: Most = 1000,
    seconds: Annotated[float | None, typer.Option("--seconds", metavar="S", min=0, help="End after so long. Default: never.")] = None,
    database: console.DatabaseName = None,
    as_json: console.Json = False,
) -> None:
    """Print rows as they come, a line of JSON each, and acknowledge a page once it is printed.

    NOTIFY hints that there is something; it looks every second anyway.
    """
    read_rows = 0
    with session.engine(database, pool=pool) as engine:
        for page in engine.feed.follow(consumer, pool=pool, most=limit, seconds=seconds):
            for row in page.rows:
                target = sys.stderr if as_json else sys.stdout
                target.write(json.dumps(row, default=str) + "\n")
            sys.stdout.flush()
            read_rows += len(page.rows)
    if as_json:
        console.emit({"consumer": consumer, "rows": read_rows}, as_json=True)


@app.command(epilog=examples("pipeline feed status", "pipeline feed status --json"))
def status(database: console.DatabaseName = None, as_json: console.Json = False) -> None:
    """How far each consumer is behind, and who holds the horizon: the oldest transaction that is writing on this server.

    What it holds back has been committed, and cannot be read before it ends. Who keeps VACUUM from its work is named too.
    """
    with session.engine(database) as engine:
        standing = engine.feed.status()
    facts = {name: standing[name] for name in ("horizon", "waiting_rows", "waiting_s")}
    human = [
        console.facts("Feed", facts),
        console.listing("Consumers", standing["consumers"], none="no consumers"),
        console.listing("The horizon is held by", standing["held_by"], none="nobody holds the horizon"),
        console.listing("VACUUM is held by", standing["vacuum_held_by"], none="nobody holds VACUUM"),
    ]
    console.emit(standing, as_json=as_json, human=human)


def _document(page: Page) -> dict[str, Any]:
    return {"events": page.rows, "after": str(page.after), "until": str(page.until), "horizon": page.horizon}


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {name: console.brief(row[name] or "") if name == "cycle" else row[name] for name in COLUMNS}
