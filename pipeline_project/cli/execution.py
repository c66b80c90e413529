"""`pipeline claim`, `complete`, `fail`, `heartbeat`: the executor's side, for scripts and for trying it by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from pipeline_project.cli import console, session
from pipeline_project.cli.arguments import Executor, Pool, Ttl, examples, json_text
from pipeline_project.cli.arguments import claim as parse_claim
from pipeline_project.core.errors import Refused

Claims = Annotated[list[Any], typer.Argument(parser=parse_claim, metavar="ITEM:TOKEN...", help="Items with the tokens of their claims.")]


def register(app: typer.Typer, panel: str) -> None:
    for command, example in (
        (claim, "pipeline claim --pool nightly --executor worker-1 -n 5 --ttl 300 --json"),
        (complete, "pipeline complete --pool nightly job-7:1 job-8:1 --result '{\"rows\": 120}'"),
        (fail, "pipeline fail --pool nightly job-7:1 --error 'no such file'"),
        (heartbeat, "pipeline heartbeat --pool nightly --executor worker-1"),
    ):
        app.command(command.__name__, rich_help_panel=panel, epilog=examples(example))(command)


def claim(
    pool: Pool,
    executor: Executor,
    most: Annotated[int, typer.Option("-n", metavar="N", min=1, max=100_000, help="Take at most so many.")] = 1,
    ttl: Ttl = None,
    request: Annotated[
        str | None, typer.Option("--request", metavar="NAME", help="A new name for each claim: the same again gives the same items.")
    ] = None,
    database: console.DatabaseName = None,
    as_json: console.Json = False,
) -> None:
    """Take selected items, best rank first. Nobody else gets them until the lease ends."""
    with session.engine(database, pool=pool) as engine:
        claims = engine.execution.claim(pool, executor, most=most, ttl_s=ttl, request=request)
    console.emit({"claims": claims}, as_json=as_json, human=[console.listing("Claims", claims, none="nothing is selected and unclaimed")])


def complete(
    pool: Pool,
    claims: Claims,
    result: Annotated[
        Any, typer.Option(parser=json_text, metavar="JSON", help="What came out, at most 64 KiB; kept with each of the items.")
    ] = None,
    database: console.DatabaseName = None,
    as_json: console.Json = False,
) -> None:
    """The work is done. The same again is accepted again; a token that is no longer current is refused with exit code 5."""
    with session.engine(database, pool=pool) as engine:
        answers = engine.execution.complete(pool, claims, results=[result] * len(claims), executor=session.actor())
    _tell("Completed", answers, as_json=as_json)


def fail(
    pool: Pool,
    claims: Claims,
    error: Annotated[str, typer.Option("--error", metavar="TEXT", help="What went wrong.")],
    database: console.DatabaseName = None,
    as_json: console.Json = False,
) -> None:
    """The work was not done: the policy says whether the item is tried again. A token that is no longer current exits with 5."""
    with session.engine(database, pool=pool) as engine:
        answers = engine.execution.fail(pool, claims, error=error, executor=session.actor())
    _tell("Failed", answers, as_json=as_json)


def heartbeat(
    pool: Pool, executor: Executor, ttl: Ttl = None, database: console.DatabaseName = None, as_json: console.Json = False
) -> None:
    """Prolong all live leases of an executor. 0 when it has none: what it had claimed may be somebody else's by now."""
    with session.engine(database, pool=pool) as engine:
        prolonged = engine.execution.heartbeat(pool, executor, ttl_s=ttl)
    document = {"pool": pool, "executor": executor, "prolonged": prolonged}
    console.emit(document, as_json=as_json, human=[f"{executor}: {prolonged:,} leases prolonged"])


def _tell(title: str, answers: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    columns = ["item", "token", "accepted", "state", "reason"]
    console.emit({"claims": answers}, as_json=as_json, human=[console.table(title, answers, columns)])
    if not all(answer["accepted"] for answer in answers):
        raise typer.Exit(Refused.exit_code)
