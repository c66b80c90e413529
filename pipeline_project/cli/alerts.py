"""`pipeline alerts`: what somebody should look at, who is told of it, and how the telling goes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from pipeline_project.cli import console, session
from pipeline_project.cli.arguments import AnyPool, Limit, examples

app = typer.Typer(no_args_is_help=True, help="Alerts: what somebody should look at, and who is told of it by the routes file.")


@app.command("list", epilog=examples("pipeline alerts list", "pipeline alerts list --state open --pool nightly --json"))
def list_alerts(
    pool: AnyPool = None,
    state: Annotated[
        Literal["open", "recovered"] | None, typer.Option("--state", metavar="STATE", help="open or recovered. Default: both.")
    ] = None,
    limit: Limit = 50,
    database: console.DatabaseName = None,
    as_json: console.Json = False,
) -> None:
    """Alerts, newest first, each with its deliveries: to which route, how often tried, what the receiver said last."""
    with session.engine(database) as engine:
        found = engine.inquiry.alerts(pool=pool, state=state, most=limit)
    names = ("alert_id", "raised_at", "state", "severity", "kind", "pool", "message", "count", "acked_by")
    shown = [{**{name: row[name] for name in names}, "told": _told(row["deliveries"])} for row in found]
    console.emit({"alerts": found}, as_json=as_json, human=[console.listing("Alerts", shown, none="no alerts")])


@app.command(epilog=examples("pipeline alerts routes", "pipeline alerts routes --example > .pipeline/alert-routes.yaml"))
def routes(
    example: Annotated[bool, typer.Option("--example", help="Print a routes file to begin with, and do nothing else.")] = False,
    database: console.DatabaseName = None,
    as_json: console.Json = False,
) -> None:
    """The routes of the file that PIPELINE_ALERT_ROUTES names, and how delivery to each goes. Their URLs are not shown."""
    from pipeline_project.core import alert_routes

    if example:
        console.emit({"example": alert_routes.EXAMPLE}, as_json=as_json, human=[alert_routes.EXAMPLE.rstrip()])
        return
    from pipeline_project.engine.routes import routes_of

    with session.logged() as settings:
        listed = routes_of(settings)
    with session.engine(database) as engine:
        states = {row["name"]: row for row in engine.inquiry.alert_routes()}
    rows = [
        {
            **route.model_dump(mode="json", exclude={"url", "at_most"}),
            "at_most": f"{route.at_most.messages} in {route.model_dump(mode='json')['at_most']['per']}",
            **{name: states.get(route.name, {}).get(name) for name in ("due", "failures", "next_attempt_at", "last_error")},
        }
        for route in listed
    ]
    none = f"no routes: `pipeline alerts routes --example > {settings.alert_routes_file}` is a beginning"
    console.emit(
        {"routes": rows, "file": str(settings.alert_routes_file)}, as_json=as_json, human=[console.listing("Routes", rows, none=none)]
    )


@app.command("test", epilog=examples("pipeline alerts test", "pipeline alerts test --route on-call"))
def send_test(
    route: Annotated[str | None, typer.Option("--route", metavar="NAME", help="Only this route. Default: all.")] = None,
    as_json: console.Json = False,
) -> None:
    """Send a test message to each route now, past its rate limit and without a trace in the table. Exit code 1 when one fails."""
    from pipeline_project.core.errors import PipelineError, Unknown
    from pipeline_project.engine.routes import routes_of, sender_of
    from pipeline_project.engine.sending import Message, resolve

    with session.logged() as settings:
        listed, send = routes_of(settings), sender_of(settings)
        chosen = [one for one in listed if route in (None, one.name)]
        if not chosen:
            known = ", ".join(one.name for one in listed) or f"none: there are no routes in {settings.alert_routes_file}"
            raise Unknown(f"route {route or ''!r}: expected one that exists ({known})")
        message = Message(title="[pipeline] test", body="This is a test. Alerts of this route arrive here.", severity="info")
        results: list[dict[str, Any]] = []
        for one in chosen:
            try:
                send(resolve(one.url), message)
                results.append({"route": one.name, "sent": True, "error": None})
            except PipelineError as failure:
                results.append({"route": one.name, "sent": False, "error": str(failure)})
    console.emit({"routes": results}, as_json=as_json, human=[console.table("Test messages", results)])
    if not all(result["sent"] for result in results):
        raise typer.Exit(1)


@app.command(epilog=examples("pipeline alerts deliver", "pipeline alerts deliver --json"))
def deliver(database: console.DatabaseName = None, as_json: console.Json = False) -> None:
    """Look once for stuck cycles, starving items and a lagging feed, then tell the routes what is due. Dagster's sensor does it; cron may.

    What cannot be sent stays in the table and is tried again, later after each failure. Exit code 1 when a route failed.
    """
    from pipeline_project.engine import routes as delivery

    with session.engine(database) as engine, session.logged() as settings:
        listed = delivery.routes_of(settings)
        seen = engine.alerts.watch()
        told = delivery.deliver(engine, settings, listed)
    document = {**seen, "routes": len(listed), "messages": told.messages, "notices": told.notices, "failed": told.failed}
    console.emit(document, as_json=as_json, human=[console.facts("Alerts", {**document, "failed": told.failed or None})])
    if told.failed:
        raise typer.Exit(1)


@app.command(epilog=examples("pipeline alerts ack 17", "pipeline alerts ack 17 18 --json"))
def ack(
    ids: Annotated[list[int], typer.Argument(metavar="ID...", help="Numbers of alerts, as `pipeline alerts list` shows them.")],
    database: console.DatabaseName = None,
    as_json: console.Json = False,
) -> None:
    """Say that you look after these: what their routes have not been told yet is not told any more, but for their end."""
    with session.engine(database) as engine:
        acked = engine.alerts.ack(ids, actor=session.actor())
    said = f"acknowledged: {', '.join(map(str, acked)) or 'none'}; the others are unknown, or somebody was there before you"
    console.emit({"acked": acked}, as_json=as_json, human=[said if len(acked) < len(set(ids)) else said.partition(";")[0]])


def _told(deliveries: list[dict[str, Any]]) -> str:
    parts = []
    for one in deliveries:
        tried = f" after {one['attempts']} tries" if one["attempts"] > 1 else ""
        error = f": {one['last_error']}" if one["last_error"] else ""
        parts.append(f"{one['route']} {one['notice']} {one['state']}{tried}{error}")
    return "; ".join(parts)
