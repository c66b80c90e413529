"""`pipeline resources`: what is limited, and how much of it is taken."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from pipeline_project.cli import console, receipts, session
from pipeline_project.cli.arguments import AnyPool, File, Pool, examples

app = typer.Typer(no_args_is_help=True, help="Resources: nodes, machine hours, slots, quotas; whatever there is only so much of.")


@app.command("import", epilog=examples("pipeline resources import machines.csv --pool nightly"))
def import_resources(path: File, pool: Pool, database: console.DatabaseName = None, as_json: console.Json = False) -> None:
    """Add the resources of a file, and change the capacity of known ones. Columns: key, capacity; optional kind.

    kind is renewable (given back when its holder ends; the default) or consumable (spent). A bad row is refused with its line, field,
    expected and found; the good ones go in, and the exit code is 5.
    """
    with session.engine(database, pool=pool) as engine, console.working(f"importing {path.name}"):
        receipt = engine.intake.import_resources(pool, path, actor=session.actor())
    receipts.tell(f"Import of {path.name}", {"pool": pool, **asdict(receipt)}, as_json=as_json)


@app.command("list", epilog=examples("pipeline resources list --pool nightly", "pipeline resources list --json"))
def list_resources(pool: AnyPool = None, database: console.DatabaseName = None, as_json: console.Json = False) -> None:
    """Resources with their capacity, what is in use and what is spent."""
    with session.engine(database, pool=pool) as engine:
        resources = engine.inquiry.resources(pool)
    none = "no resources yet: pipeline resources import PATH --pool POOL"
    console.emit({"resources": resources}, as_json=as_json, human=[console.listing("Resources", resources, none=none)])


@app.command(
    "set-capacity",
    epilog=examples(
        "pipeline resources set-capacity gpu 8 --pool nightly", "pipeline resources set-capacity gpu 2 --pool nightly --release"
    ),
)
def set_capacity(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The resource's key.")],
    capacity: Annotated[int, typer.Argument(metavar="N", help="Its new capacity.", min=0, max=2**63 - 1)],
    pool: Pool,
    release: Annotated[bool, typer.Option("--release", help="Make room: release the lowest-ranked items that nobody has claimed.")] = False,
    database: console.DatabaseName = None,
    as_json: console.Json = False,
) -> None:
    """Raise or lower a capacity. Below what is in use it is refused, unless --release can make room."""
    with session.engine(database, pool=pool) as engine:
        released = engine.intake.set_capacity(pool, key, capacity, release=release, actor=session.actor())
    document = {"pool": pool, "key": key, "capacity": capacity, "released": len(released)}
    said = f"resource {key} has capacity {capacity:,}" + (f"; {len(released):,} items were released" if released else "")
    console.emit(document, as_json=as_json, human=[said])
