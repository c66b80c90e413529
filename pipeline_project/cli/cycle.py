"""`pipeline cycle`: snapshot, selection and decisions; and what can be done with a cycle afterwards."""

from __future__ import annotations

import time
from datetime import date
from typing import Annotated, Any

import typer

from pipeline_project.cli import console, lineage, session
from pipeline_project.cli.arguments import AnyPool, CycleKey, CyclePool, Day, Limit, Pool, Reason, day, duration, examples
from pipeline_project.core.errors import CheckFailed, UsageError

app = typer.Typer(no_args_is_help=True, help="Cycles: choose the best set of pending items that fits, and commit it.")

TOP = 10
"""Decisions that `show` lists."""


@app.command(epilog=examples("pipeline cycle plan --pool nightly", "pipeline cycle plan --pool nightly --day 2026-01-31 --json"))
def plan(pool: Pool, day: Day = None, database: console.DatabaseName = None, as_json: console.Json = False) -> None:
    """Work out what a cycle would select, and keep it for `cycle commit`. Nothing is selected yet."""
    with session.engine(database, pool=pool) as engine, console.working("planning"):
        report = engine.cycles.plan(pool, day=day)
    _tell("Planned", report, as_json=as_json, hint=f"pipeline cycle commit {console.brief(report['cycle'])}")


@app.command(epilog=examples("pipeline cycle commit 3f9c2a", "pipeline cycle commit 3f9c2a --pool nightly"))
def commit(key: CycleKey, pool: CyclePool = None, database: console.DatabaseName = None, as_json: console.Json = False) -> None:
    """Commit a planned cycle. Items that changed meanwhile are left out as stale; exit code 3 when nothing of the plan holds."""
    with session.engine(database, pool=pool, cycle=key) as engine, console.working("committing"):
        report = engine.cycles.commit_planned(key, pool=pool)
        lineage.record(engine, [report])
    _tell("Committed", report, as_json=as_json)


@app.command(epilog=examples("pipeline cycle run --pool nightly", "pipeline cycle run --pool nightly --json"))
def run(pool: Pool, day: Day = None, database: console.DatabaseName = None, as_json: console.Json = False) -> None:
    """Plan and commit at once. An unchanged world makes no new cycle: then this reports the one that is there."""
    with session.engine(database, pool=pool) as engine, console.working("selecting and committing"):
        report = engine.cycles.run(pool, day=day)
        lineage.record(engine, [report])
    _tell("Cycle", report, as_json=as_json)


@app.command("list", epilog=examples("pipeline cycle list --pool nightly --limit 5"))
def list_cycles(pool: AnyPool = None, limit: Limit = 50, database: console.DatabaseName = None, as_json: console.Json = False) -> None:
    """Cycles, newest first."""
    with session.engine(database, pool=pool) as engine:
        cycles = engine.inquiry.cycles(pool, most=limit)
    shown = [{**row, "cycle": console.brief(row["cycle"]), "value": _value(row)} for row in cycles]
    columns = ["cycle", "pool", "day", "status", "selected", "deferred", "value", "upper_bound"]
    none = "no cycles yet: pipeline cycle run --pool POOL"
    human = [console.table("Cycles", shown, columns) if shown else none]
    console.emit({"cycles": cycles}, as_json=as_json, human=human)


@app.command(epilog=examples("pipeline cycle show 3f9c2a"))
def show(key: CycleKey, pool: CyclePool = None, database: console.DatabaseName = None, as_json: console.Json = False) -> None:
    """What a cycle came to, what it was decided from and by, what became of it, and its best-ranked decisions."""
    with session.engine(database, pool=pool, cycle=key) as engine:
        row = engine.cycles.find(key, pool=pool)
        report = engine.cycles.report(row["pool"], row["cycle_key"])
        decisions = engine.inquiry.decisions(row["cycle_key"], pool=row["pool"], most=TOP)
        traced = engine.inquiry.lineage(row["cycle_key"], pool=row["pool"])
    names = ("policy_version", "engine_version", "owner", "artifact", "planned_at", "committing_at", "published_at", "closed_at", "reason")
    about = {name: row[name] for name in names}
    links = {"page": lineage.page(row["pool"], {"run": traced["run"], "day": row["day"]})}
    document = {**report, **about, **traced, **links, "certificate": row["certificate"], "decisions": decisions}
    told = {
        name: traced[name] for name in ("policy_hash", "seed", "solvers", "selection_hash", "decided_by", "before", "freed", "outcomes")
    }
    human = [
        console.facts("Cycle", {**_shown(report), **about, **told, **links}),
        *([console.table("Took the place of", traced["superseded"], ["cycle", "day", "mode", "items"])] if traced["superseded"] else []),
        console.listing(f"Decisions, best {TOP} ranks", decisions, none="no decisions recorded"),
    ]
    console.emit(document, as_json=as_json, human=human)


@app.command(epilog=examples("pipeline cycle replay 3f9c2a"))
def replay(key: CycleKey, pool: CyclePool = None, database: console.DatabaseName = None, as_json: console.Json = False) -> None:
    """Solve the stored problem again and compare, bit for bit. Exit code 4 when the answer differs."""
    with session.engine(database, pool=pool, cycle=key) as engine, console.working("solving again"):
        report = engine.cycles.replay(key, pool=pool)
    console.emit(report, as_json=as_json, human=[console.facts("Replay", report)])
    if not report["same"]:
        _explain_difference(report, as_json=as_json)
        raise typer.Exit(CheckFailed.exit_code)


@app.command(epilog=examples("pipeline cycle verify 3f9c2a"))
def verify(key: CycleKey, pool: CyclePool = None, database: console.DatabaseName = None, as_json: console.Json = False) -> None:
    """Check the stored selection against its stored problem, apart from every solver. Exit code 4 when it is unsound."""
    with session.engine(database, pool=pool, cycle=key) as engine, console.working("verifying"):
        report = engine.cycles.verify(key, pool=pool)
    human = [f"cycle {report['cycle']}: " + ("verified" if report["verified"] else "UNSOUND"), *report["violations"]]
    console.emit(report, as_json=as_json, human=human)
    if not report["verified"]:
        raise typer.Exit(CheckFailed.exit_code)


@app.command(
    epilog=examples(
        "pipeline cycle rollback 3f9c2a --preview",
        "pipeline cycle rollback 3f9c2a --expect 5d41402abc4b2a76b9719d911017c592",
        "pipeline cycle rollback 3f9c2a --hold 2h --compensate --reason 'wrong prices'",
    )
)
def rollback(
    key: CycleKey,
    preview: Annotated[bool, typer.Option("--preview", help="Only say what it would do, with the hash for --expect.")] = False,
    expect: Annotated[
        str | None,
        typer.Option("--expect", metavar="HASH", help="Do exactly what the preview of this hash said; exit code 3 with what differs."),
    ] = None,
    hold: Annotated[
        int | None, typer.Option("--hold", parser=duration, metavar="D", help="Do not select the items again for so long: seconds, or 2h.")
    ] = None,
    compensate: Annotated[
        bool, typer.Option("--compensate", help="Submit one new item for each completed one, KEY~undo~CYCLE, as it cannot be undone.")
    ] = False,
    reason: Reason = None,
    pool: CyclePool = None,
    database: console.DatabaseName = None,
    as_json: console.Json = False,
) -> None:
    """Release what a published cycle selected and nobody has claimed. Claimed and completed items are reported, not undone.

    Without --hold the next cycle may well select the same items again. --hold and --compensate are part of what --expect compares:
    give them to the preview too.
    """
    if preview and expect:
        raise UsageError("cycle rollback: expected --preview or --expect, found both: a preview applies nothing")
    with session.engine(database, pool=pool, cycle=key) as engine, console.working("rolling back"):
        report = engine.cycles.rollback(
            key, pool=pool, hold_s=hold or 0, preview=preview, expect=expect, compensate=compensate, reason=reason or "rolled back"
        )
    human = _rollback(report, preview=preview)
    if preview:
        same = (f" --hold {hold}" if hold else "") + (" --compensate" if compensate else "")
        human.append(f"next: pipeline cycle rollback {console.brief(report['cycle'])}{same} --expect {report['hash']}")
    console.emit({**report, "preview": preview}, as_json=as_json, human=human)


def _rollback(report: dict[str, Any], *, preview: bool) -> list[Any]:
    """Counts, what each resource gets back, and the items that a person has to care about: those that are not simply released."""
    counts = {name: value for name, value in report.items() if not isinstance(value, list)}
    known = [{**item, "demands": None} for item in report["items"] if item["effect"] not in ("release", "moved_on")]
    columns = ["item", "effect", "state", "weight", "executor", "lease_until", "attempts", "reason"]
    shown: list[Any] = [console.facts("Would be rolled back" if preview else "Rolled back", counts)]
    if report["resources"]:
        shown.append(console.table("Resources get back", report["resources"][:TOP]))
    if known:
        shown.append(console.table("Not undone", known[:TOP], columns))
    for what, rows in (("resources", report["resources"]), ("items that are not undone", known)):
        if len(rows) > TOP:
            shown.append(f"{TOP} of {len(rows):,} {what}; --json has all")
    return shown


@app.command(epilog=examples("pipeline cycle reprocess --pool nightly --from 2026-01-30 --to 2026-01-31"))
def reprocess(
    pool: Pool,
    first: Annotated[date, typer.Option("--from", parser=day, metavar="DAY", help="First day.")],
    last: Annotated[date, typer.Option("--to", parser=day, metavar="DAY", help="Last day, itself included.")],
    database: console.DatabaseName = None,
    as_json: console.Json = False,
) -> None:
    """Decide past days anew, in one cycle a day, by the policy in force. Only items whose verdict changes are moved."""
    if first > last:
        raise UsageError(f"cycle reprocess: expected --from no later than --to, found {first} and {last}")
    began = time.monotonic()
    with session.engine(database, pool=pool) as engine, console.working("reprocessing"):
        reports = engine.cycles.reprocess(pool, first, last)
        lineage.record(engine, reports)
    changed = sum(report["changed"] for report in reports)
    document = {"pool": pool, "changed": changed, "cycles": reports, "seconds": round(time.monotonic() - began, 3)}
    columns = ["day", "cycle", "status", "changed", "value", "upper_bound", "selected", "deferred", "seconds"]
    shown = [{**report, "cycle": console.brief(report["cycle"])} for report in reports]
    human = [console.table(f"Reprocess of {pool}", shown, columns), f"{changed:,} items changed their state"]
    console.emit(document, as_json=as_json, human=human)


def _tell(title: str, report: dict[str, Any], *, as_json: bool, hint: str | None = None) -> None:
    human: list[Any] = [console.facts(title, _shown(report))]
    if hint:
        human.append(f"next: {hint}")
    console.emit(report, as_json=as_json, human=human)


def _shown(report: dict[str, Any]) -> dict[str, Any]:
    return {**report, "gap": console.percent(report["gap"])}


def _value(row: dict[str, Any]) -> int:
    value: int = row["value"] if row["committed_value"] is None else row["committed_value"]
    return value


def _explain_difference(report: dict[str, Any], *, as_json: bool) -> None:
    if not as_json:
        why = "its policy is" if report["reproducible"] else "the clock ended the first search, so this may happen; its policy was not"
        console.err.print(f"The answer differs: {why} `solver.reproducible`.")
