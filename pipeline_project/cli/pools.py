"""`pipeline pools`: independent selection domains, each with its own items, resources and policy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline_project.cli import console, session
from pipeline_project.cli.arguments import PoolName, examples

app = typer.Typer(no_args_is_help=True, help="Pools: each selects for itself, from its own items and resources, by its own policy.")


@app.command(epilog=examples("pipeline pools create nightly", "pipeline pools create nightly --policy nightly.yaml"))
def create(
    name: PoolName,
    policy: Annotated[Path | None, typer.Option("--policy", metavar="FILE", help="Its policy in YAML. Default: all defaults.")] = None,
    database: console.DatabaseName = None,
    as_json: console.Json = False,
) -> None:
    """Create a pool. One that is there already stays as it is, policy included."""
    from pipeline_project.cli.policy import read

    chosen = read(policy) if policy else None
    with session.engine(database, pool=name) as engine:
        created = engine.intake.create_pool(name, chosen)
        version, in_force = engine.inquiry.policy(name)
    document = {"pool": name, "created": created, "policy_version": version, "policy_hash": in_force.hash}
    said = f"pool {name} created" if created else f"pool {name} was there already; it keeps its policy (version {version})"
    if not created and chosen and chosen.hash != in_force.hash:
        said += f": `pipeline policy apply {policy} --pool {name}` replaces it"
    console.emit(document, as_json=as_json, human=[said])


@app.command("list", epilog=examples("pipeline pools list", "pipeline pools list --json"))
def list_pools(database: console.DatabaseName = None, as_json: console.Json = False) -> None:
    """All pools with their counts."""
    with session.engine(database) as engine:
        pools = engine.inquiry.pools()
    console.emit(
        {"pools": pools}, as_json=as_json, human=[console.listing("Pools", pools, none="no pools yet: pipeline pools create NAME")]
    )


@app.command(epilog=examples("pipeline pools show nightly"))
def show(name: PoolName, database: console.DatabaseName = None, as_json: console.Json = False) -> None:
    """One pool: its items by state, its backlog, its source, what happened to it last."""
    with session.engine(database, pool=name) as engine:
        pool = engine.inquiry.pool(name)
    source = pool["source"] or {}
    known = {
        "status": pool["status"],
        "policy": f"version {pool['policy_version']}, hash {pool['policy_hash'][:12]}",
        "items": ", ".join(f"{count:,} {state}" for state, count in pool["items"].items()) or "none",
        "could be selected": pool["backlog"]["pending"],
        "oldest of these": pool["backlog"]["oldest"],
        "committing": ", ".join(cycle["cycle_key"] for cycle in pool["in_flight"]) or None,
        "source pulled": source.get("pulled_at"),
        "source error": source.get("error"),
    }
    human = [console.facts(f"Pool {name}", known), console.listing("Latest events", pool["events"], none="no events")]
    console.emit(pool, as_json=as_json, human=human)


@app.command(epilog=examples("pipeline pools pause nightly"))
def pause(name: PoolName, database: console.DatabaseName = None, as_json: console.Json = False) -> None:
    """No cycle selects from the pool until it is resumed; executors go on with what is selected."""
    with session.engine(database, pool=name) as engine:
        changed = engine.intake.pause(name, actor=session.actor())
    _tell(name, "paused", changed, as_json=as_json)


@app.command(epilog=examples("pipeline pools resume nightly"))
def resume(name: PoolName, database: console.DatabaseName = None, as_json: console.Json = False) -> None:
    """Let cycles select from a paused pool again."""
    with session.engine(database, pool=name) as engine:
        changed = engine.intake.resume(name, actor=session.actor())
    _tell(name, "active", changed, as_json=as_json)


def _tell(name: str, status: str, changed: bool, *, as_json: bool) -> None:
    said = f"pool {name} is {status}" + ("" if changed else ", as it was")
    console.emit({"pool": name, "status": status, "changed": changed}, as_json=as_json, human=[said])
