"""`pipeline items`: the units of work that wait to be selected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline_project.cli import console, lineage, receipts, session
from pipeline_project.cli.arguments import File, Key, Keys, Limit, Pool, Reason, examples, instant, json_text
from pipeline_project.core.errors import Refused, UsageError
from pipeline_project.core.lifecycle import State

if TYPE_CHECKING:
    from pipeline_project.engine.engine import Engine

app = typer.Typer(no_args_is_help=True, help="Items: bring them in, look at them, change them, ask why one was not selected.")


FACTS = (
    *("state", "reason", "error", "result", "weight", "payload", "not_before", "expires_at"),
    *("bundle_key", "bundle_size", "cycle_key", "rank", "hold_until"),
    *("executor", "token", "lease_until", "attempts", "origin", "submitted_at", "archived_at", "version", "revision"),
)
"""What a person is shown of an item, the important first; --json has all."""

DEAD_MOST = 1_000_000
"""Dead letters that one command revives at most."""


def dead_state(text: str) -> State:
    if text not in (State.FAILED, State.QUARANTINED):
        raise typer.BadParameter(f"expected failed or quarantined, found {text!r}")
    return State(text)


DeadState = Annotated[
    State | None, typer.Option("--state", help="Only failed or only quarantined ones.", parser=dead_state, metavar="STATE")
]
DeadError = Annotated[str | None, typer.Option("--error", metavar="TEXT", help="Only those whose last error holds this text.")]

Archived = Annotated[
    bool, typer.Option("--archived", help="Those that ended long ago and are in history, instead of the others. Newest end first.")
]

ALIVE = (State.PENDING, State.SELECTED, State.CLAIMED)

MORE_ARCHIVED = "some ended long ago and are archived: --archived lists them; items show, why and timeline find each by its key"

NONE = "none"
"""What a person writes to take a time away."""


@app.command(
    "import", epilog=examples("pipeline items import jobs.csv --pool nightly", "pipeline items import jobs.parquet --pool p --json")
)
def import_items(path: File, pool: Pool, database: console.DatabaseName = None, as_json: console.Json = False) -> None:
    """Submit the rows of a file. Columns: key, weight, demands; optional payload, not_before, expires_at, bundle_key, bundle_size.

    demands is a JSON object such as {"gpu": 2}. Rows that are in already are left alone, changed ones revise their item. A bad row
    is refused with its line, field, expected and found; the good ones go in, and the exit code is 5.
    """
    with session.engine(database, pool=pool) as engine, console.working(f"importing {path.name}: rows read") as progress:
        receipt = engine.intake.import_items(pool, path, progress=progress, actor=session.actor())
    receipts.tell(f"Import of {path.name}", {"pool": pool, **asdict(receipt)}, as_json=as_json)


@app.command(epilog=examples("pipeline items pull --pool nightly"))
def pull(pool: Pool, database: console.DatabaseName = None, as_json: console.Json = False) -> None:
    """Pull the source that the pool's policy names, once. Exit code 5 when a row was refused or a withheld cancellation needs a look."""
    with session.engine(database, pool=pool) as engine, console.working("pulling"):
        report = engine.intake.pull(pool, actor=session.actor())
    if report["withheld"] and not as_json:
        console.err.print(report["withheld"])
    receipts.tell(f"Pull of {pool}", {"pool": pool, **report}, as_json=as_json)
    if report["withheld"]:
        raise typer.Exit(Refused.exit_code)


@app.command(
    "list",
    epilog=examples("pipeline items list --pool nightly --state pending", "pipeline items list --pool nightly --archived --limit 10"),
)
def list_items(
    pool: Pool,
    state: Annotated[State | None, typer.Option("--state", help="Only items in this state.")] = None,
    archived: Archived = False,
    limit: Limit = 100,
    database: console.DatabaseName = None,
    as_json: console.Json = False,
) -> None:
    """Items in the order they came in. Those that ended long ago are archived: --archived lists them, newest end first."""
    if archived and state in ALIVE:
        raise UsageError(f"items list: expected a state that has ended beside --archived, found {state}: no such item is archived")
    with session.engine(database, pool=pool) as engine:
        items = engine.inquiry.items(pool, state=state, most=limit, archived=archived)
        counts = engine.inquiry.counts(pool)
        more = not archived and state not in ALIVE and engine.inquiry.archive(pool)["items"]
    if archived:
        _tell_archived(f"Archived items of {pool}", items, limit, as_json=as_json)
        return
    total = counts.get(state, 0) if state else sum(counts.values())
    human = [console.listing(f"Items of {pool}", [_brief(item) for item in items], none=f"no {f'{state} ' if state else ''}items")]
    if total > len(items):
        human.append(f"{len(items):,} of {total:,}; --limit shows more")
    human += [MORE_ARCHIVED] if more else []
    console.emit({"items": items, "total": total, "by_state": counts, "archived": more}, as_json=as_json, human=human)


@app.command(epilog=examples("pipeline items show job-7 --pool nightly"))
def show(key: Key, pool: Pool, database: console.DatabaseName = None, as_json: console.Json = False) -> None:
    """Everything about one item."""
    with session.engine(database, pool=pool) as engine:
        item = engine.inquiry.item(pool, key)
    known = {name: item[name] for name in FACTS}
    human = [console.facts(f"Item {key}", known), console.listing("Demands", item["demands"], none="no demands")]
    console.emit(item, as_json=as_json, human=human)


@app.command(
    epilog=examples(
        "pipeline items revise job-7 --pool nightly --weight 90",
        "pipeline items revise job-7 --pool nightly --demands '{\"gpu\": 1}' --expires-at 2030-01-31T06:00:00Z",
        "pipeline items revise job-7 --pool nightly --expires-at none",
    )
)
def revise(
    key: Key,
    pool: Pool,
    weight: Annotated[Any, typer.Option(parser=json_text, metavar="N", help="What it is worth, whole points.")] = None,
    demands: Annotated[Any, typer.Option(parser=json_text, metavar="JSON", help='All its demands: {"resource key": quantity}.')] = None,
    payload: Annotated[Any, typer.Option(parser=json_text, metavar="JSON", help="What executors are given: a JSON object.")] = None,
    not_before: Annotated[str | None, typer.Option(metavar="TIME", help="Not selected earlier; none = at once.")] = None,
    expires_at: Annotated[str | None, typer.Option(metavar="TIME", help="Expires then; none = never.")] = None,
    database: console.DatabaseName = None,
    as_json: console.Json = False,
) -> None:
    """Change an item. A selected one is released first and competes again; a claimed one is refused."""
    given = {"weight": weight, "demands": demands, "payload": payload, "not_before": not_before, "expires_at": expires_at}
    changes = {name: None if value == NONE else value for name, value in given.items() if value is not None}
    if not changes:
        raise UsageError("items revise: expected something to change, such as --weight 90; found nothing")
    with session.engine(database, pool=pool) as engine:
        receipt = engine.intake.revise(pool, key, changes, actor=session.actor())
        item = engine.inquiry.item(pool, key)
    document = {"item": key, "pool": pool, "revised": receipt.revised == 1, "state": item["state"], "revision": item["revision"]}
    said = f"item {key} is {item['state']}, revision {item['revision']}" + ("" if receipt.revised else ": it was so already")
    console.emit(document, as_json=as_json, human=[said])


@app.command(epilog=examples("pipeline items cancel job-7 job-8 --pool nightly --reason 'customer withdrew'"))
def cancel(keys: Keys, pool: Pool, reason: Reason = None, database: console.DatabaseName = None, as_json: console.Json = False) -> None:
    """Cancel pending, selected or claimed items; what they hold is free at once. Exit code 5 when one has ended already."""
    with session.engine(database, pool=pool) as engine:
        moved = engine.intake.cancel(pool, keys, reason=reason or "cancelled by operator", actor=session.actor())
        refused = _unmoved(engine, pool, keys, moved, State.CANCELLED, "a pending, selected or claimed item")
    _tell_moved("cancelled", pool, moved, refused, as_json=as_json)


@app.command(
    epilog=examples(
        "pipeline items revive job-7 --pool nightly",
        "pipeline items revive job-7 job-8 --pool nightly --expires-at 2030-01-31T06:00:00Z",
        "pipeline items revive --pool nightly --state failed --error 'disk full'",
    )
)
def revive(
    pool: Pool,
    keys: Annotated[list[str] | None, typer.Argument(metavar="[KEY...]", help="Keys of items; or else --state or --error.")] = None,
    state: DeadState = None,
    error: DeadError = None,
    expires_at: Annotated[
        datetime | None, typer.Option(parser=instant, metavar="TIME", help="Their new expiry, for those whose own has passed.")
    ] = None,
    reason: Reason = None,
    database: console.DatabaseName = None,
    as_json: console.Json = False,
) -> None:
    """Let expired, failed or quarantined items, and those their source cancelled, compete again. Exit code 5 when one may not."""
    if bool(keys) == bool(state or error):
        raise UsageError("items revive: expected keys, or --state or --error to choose dead letters by, and not both")
    told: dict[str, Any] = {"expires_at": expires_at, "reason": reason or "revived by operator", "actor": session.actor()}
    allowed = "an expired, failed, quarantined or source-cancelled item whose expires_at lies ahead"
    with session.engine(database, pool=pool) as engine:
        chosen = keys or [row["key"] for row in engine.inquiry.dead(pool, state=state, error=error, most=DEAD_MOST)]
        moved = engine.intake.revive(pool, keys, **told) if keys else engine.intake.revive_dead(pool, state=state, error=error, **told)
        refused = _unmoved(engine, pool, chosen, moved, State.PENDING, allowed)
    _tell_moved("revived", pool, moved, refused, as_json=as_json)


@app.command(epilog=examples("pipeline items quarantine job-7 --pool nightly --reason 'its input is damaged'"))
def quarantine(
    keys: Keys,
    pool: Pool,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it stands in the audit trail.")],
    database: console.DatabaseName = None,
    as_json: console.Json = False,
) -> None:
    """Put pending or selected items aside, with their bundles, until `items revive`. Exit code 5 when one is claimed or ended."""
    with session.engine(database, pool=pool) as engine:
        moved = engine.intake.quarantine(pool, keys, reason=reason, actor=session.actor())
        refused = _unmoved(engine, pool, keys, moved, State.QUARANTINED, "a pending or selected item")
    _tell_moved("quarantined", pool, moved, refused, as_json=as_json)


@app.command(epilog=examples("pipeline items dead --pool nightly", "pipeline items dead --pool nightly --state quarantined --json"))
def dead(
    pool: Pool,
    state: DeadState = None,
    error: DeadError = None,
    archived: Archived = False,
    limit: Limit = 100,
    database: console.DatabaseName = None,
    as_json: console.Json = False,
) -> None:
    """Dead letters: items that failed for good or are quarantined, newest first, with what their last executor said.

    Those that ended long ago are archived: --archived lists them, and `items revive KEY` brings them back.
    """
    with session.engine(database, pool=pool) as engine:
        letters = engine.inquiry.dead(pool, state=state, error=error, most=limit, archived=archived)
        counts = engine.inquiry.counts(pool)
        more = not archived and engine.inquiry.archive(pool)["dead"]
    if archived:
        _tell_archived(f"Archived dead letters of {pool}", letters, limit, as_json=as_json)
        return
    total = sum(counts.get(name, 0) for name in ("failed", "quarantined"))
    columns = ["key", "state", "reason", "error", "attempts", "claims", "since"]
    human = [console.table(f"Dead letters of {pool}", letters, columns) if letters else "no dead letters"]
    if total > len(letters):
        human.append(f"{len(letters):,} of {total:,} dead letters")
    human += ["next: pipeline items revive KEY... (or --state, --error)"] if letters else []
    human += [MORE_ARCHIVED] if more else []
    console.emit({"items": letters, "total": total, "archived": more}, as_json=as_json, human=human)


@app.command(epilog=examples("pipeline items why job-7 --pool nightly"))
def why(key: Key, pool: Pool, database: console.DatabaseName = None, as_json: console.Json = False) -> None:
    """Why an item is where it is: what the newest cycles decided about it, and who stood in its way."""
    with session.engine(database, pool=pool) as engine:
        answer = engine.inquiry.why(pool, key)
    for verdict in answer["verdicts"]:
        verdict["page"] = lineage.page(pool, verdict)
    human: list[Any] = [answer["sentence"] + "."]
    newest = answer["verdicts"][0] if answer["verdicts"] else {}
    if newest.get("blockers"):
        human.append(console.table(f"In its way in cycle {console.brief(newest['cycle'])}", [_blocker(row) for row in newest["blockers"]]))
    if answer["verdicts"]:
        columns = ["cycle", "cycle_status", "day", "published_at", "verdict", "rank", "weight", "reason"]
        verdicts = [{**verdict, "cycle": console.brief(verdict["cycle"])} for verdict in answer["verdicts"]]
        human.append(console.table("What the newest cycles decided", verdicts, columns))
        told = ("policy_version", "policy_hash", "engine_version", "solvers", "seed", "selection_hash", "artifact", "page")
        human.append(console.facts(f"Cycle {console.brief(newest['cycle'])} decided by", {name: newest[name] for name in told}))
    console.emit(answer, as_json=as_json, human=human)


@app.command(epilog=examples("pipeline items timeline job-7 --pool nightly"))
def timeline(key: Key, pool: Pool, database: console.DatabaseName = None, as_json: console.Json = False) -> None:
    """Every move of an item, oldest first: with who (logged in, and claimed to be), why, cycle, token and version.

    Events of its pool that mattered to it stand between them: policies, pauses, its cycles, capacities of what it demands.
    """
    with session.engine(database, pool=pool) as engine:
        moves = engine.inquiry.timeline(pool, key)
        events = engine.inquiry.beside(pool, key)
    document = {"item": key, "pool": pool, "transitions": moves, "pool_events": events}
    named = [{**event, "event": event["kind"], "reason": event["detail"] or None} for event in events]
    shown = [{**row, "cycle": console.brief(row["cycle"] or ""), "as": row["session_name"]} for row in [*moves, *named]]
    shown.sort(key=lambda row: row["at"])  # stable: what shares an instant keeps its order
    columns = ["at", "event", "from_state", "to_state", "version", "cycle", "token", "actor", "as", "reason"]
    console.emit(document, as_json=as_json, human=[console.table(f"Timeline of {key}", shown, columns)])


def _tell_archived(title: str, items: Sequence[dict[str, Any]], limit: int, *, as_json: bool) -> None:
    """Nobody counts what history holds: it may be a hundred times what is at work."""
    human = [console.listing(title, [_brief(item) for item in items], none="none is archived")]
    if len(items) == limit:
        human.append(f"the newest {limit:,}; --limit shows more")
    console.emit({"items": items, "archived": True}, as_json=as_json, human=human)


def _brief(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "attempts": item["attempts"] or None}


def _blocker(row: dict[str, Any]) -> dict[str, Any]:
    named = ", ".join(f"{holder['item']} ({holder['weight']:,})" for holder in row["holders"])
    more = row["holders_in_all"] - len(row["holders"])
    held_by = named + (f" and {more:,} more" if more else "") or "items that earlier cycles selected"
    return {"resource": row["resource"], "held by (weight)": held_by}


def _unmoved(engine: Engine, pool: str, keys: Sequence[str], moved: Sequence[str], done: State, expected: str) -> list[dict[str, str]]:
    """Keys that did not move although they are not where the command would have brought them."""
    states = {key: str(engine.inquiry.item(pool, key)["state"]) for key in dict.fromkeys(keys) if key not in set(moved)}
    return [{"item": key, "field": "state", "expected": expected, "found": state} for key, state in states.items() if state != done]


def _tell_moved(verb: str, pool: str, moved: Sequence[str], refused: Sequence[dict[str, str]], *, as_json: bool) -> None:
    said = [f"{len(moved):,} {verb}: {', '.join(moved[:20])}" if moved else f"none {verb}"]
    console.emit({"pool": pool, verb: list(moved), "refused": list(refused)}, as_json=as_json, human=said)
    if refused:
        if not as_json:
            console.err.print(console.table("Refused", refused))
        raise typer.Exit(Refused.exit_code)
