"""The routes file: what it refuses, and who hears what."""

from __future__ import annotations

import pytest

from pipeline_project.core import alert_routes
from pipeline_project.core.alert_routes import EXAMPLE, RoutesRefused


def test_the_example_is_one() -> None:
    on_call, team, archive = alert_routes.parse(EXAMPLE, "example")
    assert (on_call.severities, on_call.pools, on_call.recovery) == (["error"], ["*"], True)
    assert (team.at_most.messages, team.at_most.per) == (10, 3600)
    assert archive.recovery is False


def test_no_text_is_no_route() -> None:
    assert alert_routes.parse("", "x") == ()


def test_a_route_hears_by_severity_kind_and_pool() -> None:
    _, team, archive = alert_routes.parse(EXAMPLE, "example")
    assert team.hears(severity="error", kind="starving", pool="night-2")
    assert team.hears(severity="error", kind="lagging_feed", pool=None)
    assert not team.hears(severity="error", kind="starving", pool="day")
    assert not team.hears(severity="info", kind="starving", pool="farm")
    assert not archive.hears(severity="error", kind="starving", pool="farm")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("routes:\n  - name: a\n    url: json://me:hunter2@example.org", "line 3: routes.0.url: expected env:NAME"),
        ("routes:\n  - name: a", "line 2: routes.0.url: expected env:NAME of a variable"),
        ("routes:\n  - url: env:X", "line 2: routes.0.name: expected 1 to 64 of A-Z a-z 0-9 _ -, found nothing"),
        ("routes:\n  - name: a b\n    url: env:X", "line 2: routes.0.name: expected 1 to 64 of"),
        ("routes:\n  - name: a\n    url: env:X\n    severity: [error]", "line 4: routes.0: expected one of name, url, severities"),
        ("routes:\n  - name: a\n    url: env:X\n    severities: [loud]", "line 4: routes.0.severities.0: expected 'info'"),
        ("routes:\n  - name: a\n    url: env:X\n    at_most: {messages: 0}", "line 4: routes.0.at_most.messages: expected greater"),
        (
            "routes:\n  - name: a\n    url: env:X\n  - name: a\n    url: env:Y",
            "line 4: routes.name: expected each name once, found 'a' again",
        ),
        ("routes: [", "expected YAML"),
        ("rules: []", "line 1: document: expected one of routes, found"),
    ],
)
def test_what_is_wrong_is_refused_with_its_line(text: str, found: str) -> None:
    with pytest.raises(RoutesRefused) as refused:
        alert_routes.parse(text, "routes.yaml")
    assert found in str(refused.value)
    assert "hunter2" not in str(refused.value)
