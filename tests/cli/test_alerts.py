"""`pipeline alerts`: seen, tried out, delivered, acknowledged; no URL is shown."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from pipeline_project.engine import sending
from pipeline_project.engine.alerts import Alerts
from pipeline_project.engine.sending import Message, NotSent
from pipeline_project.store.alerts import Alert
from pipeline_project.store.database import Database
from tests.cli.conftest import CommandLine
from tests.docs.pages import DOCS, blocks, read

ROUTES = "routes: [{name: on-call, url: 'env:ONCALL_URL'}, {name: quiet, url: 'env:QUIET_URL', pools: [q]}]"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """(URL, title) of what would have been sent; whose URL says so is down."""
    got: list[tuple[str, str]] = []

    def send(url: str, message: Message, allowed: Iterable[str] = ()) -> None:
        if "down" in url:
            raise NotSent("no answer")
        got.append((url, message.title))

    monkeypatch.setattr(sending, "send", send)
    monkeypatch.setenv("ONCALL_URL", "json://up.example.org/topsecret")
    monkeypatch.setenv("QUIET_URL", "json://down.example.org/topsecret")
    return got


@pytest.fixture
def routed(pipeline: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    monkeypatch.setenv("PIPELINE_ALERT_ROUTES", pipeline.file("routes.yaml", ROUTES))
    return pipeline


def begin(database: Database, pool: str = "p") -> None:
    Alerts(database).begin(Alert(dedupe_key=f"k:{pool}", kind="run_failed", severity="error", pool=pool, message="the sweep failed"))


def test_an_alert_is_listed_delivered_and_acknowledged(routed: CommandLine, database: Database, sent: list[tuple[str, str]]) -> None:
    begin(database)
    (alert,) = routed("alerts", "list", "--state", "open", "--pool", "p")["alerts"]
    assert (alert["state"], alert["kind"], alert["deliveries"]) == ("open", "run_failed", [])
    done = routed("alerts", "deliver")
    assert (done["messages"], done["notices"], done["failed"]) == (1, 1, {})
    assert sent == [("json://up.example.org/topsecret", "[pipeline] error: pool p: run failed")]
    (told,) = routed("alerts", "list")["alerts"][0]["deliveries"]
    assert (told["route"], told["state"], told["attempts"]) == ("on-call", "sent", 1)
    assert routed("alerts", "ack", str(alert["alert_id"])) == {"acked": [alert["alert_id"]]}
    assert "somebody was there before you" in routed.shown("alerts", "ack", str(alert["alert_id"]))[0]
    assert routed("alerts", "list", "--state", "recovered") == {"alerts": []}


def test_a_route_that_fails_is_told_of_and_its_url_is_not(routed: CommandLine, database: Database, sent: list[tuple[str, str]]) -> None:
    begin(database, "q")
    assert routed("alerts", "deliver", exits=1)["failed"] == {"quiet": "no answer"}
    shown = routed("alerts", "routes")
    assert [(route["name"], route["due"], route["last_error"]) for route in shown["routes"]] == [
        ("on-call", 0, None),
        ("quiet", 1, "no answer"),
    ]
    for command in (["alerts", "routes"], ["alerts", "list"]):
        out, err = routed.shown(*command)
        assert "topsecret" not in out + err


def test_a_test_message_goes_to_each_route(routed: CommandLine, sent: list[tuple[str, str]]) -> None:
    assert routed("alerts", "test", "--route", "on-call") == {"routes": [{"route": "on-call", "sent": True, "error": None}]}
    assert [route["sent"] for route in routed("alerts", "test", exits=1)["routes"]] == [True, False]
    assert "expected one that exists (on-call, quiet)" in routed("alerts", "test", "--route", "x", exits=5)["error"]["message"]


def test_without_routes_a_person_is_told_how_to_begin(pipeline: CommandLine) -> None:
    assert pipeline("alerts", "routes")["routes"] == []
    assert "pipeline alerts routes --example" in pipeline.shown("alerts", "routes")[0]


def test_the_example_is_the_one_that_the_page_shows(pipeline: CommandLine) -> None:
    example = pipeline("alerts", "routes", "--example")["example"]
    assert example in blocks(read(DOCS / "dagster.md"), "yaml")


def test_a_wrong_routes_file_is_refused_with_its_line(pipeline: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_ALERT_ROUTES", pipeline.file("routes.yaml", "routes:\n  - name: a"))
    assert "line 2: routes.0.url" in pipeline("alerts", "deliver", exits=5)["error"]["message"]
    monkeypatch.setenv("PIPELINE_ALERT_ROUTES", "nowhere.yaml")
    assert "expected a file, found none" in pipeline("alerts", "routes", exits=2)["error"]["message"]
