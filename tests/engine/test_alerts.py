"""An alert lasts, ends, and is told at least once to whom it concerns, whatever the receiver and the deliverer do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Barrier, Thread
from typing import Any

import pytest
import sqlalchemy as sa

from pipeline_project.core import alert_routes
from pipeline_project.core.alert_routes import Route
from pipeline_project.engine.alerts import BACKOFF_S, LEASE_S, Delivered
from pipeline_project.engine.commit import Commit
from pipeline_project.engine.sending import Message, NotSent
from pipeline_project.store.alerts import Alert
from tests.world import World

EARLIER = datetime(2026, 1, 15, 11, tzinfo=UTC)


@dataclass
class Receiver:
    """Stands for the service behind a route; it may be down."""

    down: bool = False
    got: list[Message] = field(default_factory=list)
    then: Callable[[], Any] = lambda: None

    def __call__(self, _url: str, message: Message) -> None:
        self.then()
        if self.down:
            raise NotSent("no answer")
        self.got.append(message)


def routes(text: str = "") -> tuple[Route, ...]:
    return alert_routes.parse(text or "routes: [{name: r, url: 'json://example.org', severities: [info, warning, error]}]", "test")


def fault(name: str = "x", severity: Any = "error", pool: str | None = "p", **more: Any) -> Alert:
    return Alert(dedupe_key=f"k:{name}", kind="check_failed", severity=severity, pool=pool, message=f"{name} is broken", **more)


def deliveries(world: World) -> list[tuple[str, str, str, int, str | None]]:
    """(route, notice, state, attempts, last error), oldest first."""
    return [
        (one["route"], one["notice"], one["state"], one["attempts"], one["last_error"])
        for alert in reversed(world.engine.inquiry.alerts())
        for one in alert["deliveries"]
    ]


# -- episodes


def test_while_a_condition_lasts_it_is_one_alert_that_counts(world: World) -> None:
    assert world.engine.alerts.begin(fault())
    world.advance(minutes=1)
    assert not world.engine.alerts.begin(fault())
    (alert,) = world.engine.inquiry.alerts()
    assert (alert["state"], alert["count"], alert["last_seen"] - alert["raised_at"]) == ("open", 2, timedelta(minutes=1))


def test_after_its_end_the_next_is_another(world: World) -> None:
    world.engine.alerts.begin(fault())
    world.advance(minutes=1)
    assert world.engine.alerts.end("k:x")
    assert not world.engine.alerts.end("k:x")
    world.advance(minutes=1)
    assert world.engine.alerts.begin(fault())
    assert [alert["state"] for alert in world.engine.inquiry.alerts()] == ["open", "recovered"]


def test_old_news_neither_counts_nor_brings_an_ended_alert_back(world: World) -> None:
    world.engine.alerts.begin(fault(observed_at=EARLIER))
    assert not world.engine.alerts.begin(fault(observed_at=EARLIER))
    assert world.engine.inquiry.alerts()[0]["count"] == 1
    assert not world.engine.alerts.end("k:x", EARLIER - timedelta(minutes=1))
    assert world.engine.alerts.end("k:x", EARLIER + timedelta(minutes=1))
    assert not world.engine.alerts.begin(fault(observed_at=EARLIER))
    assert [alert["state"] for alert in world.engine.inquiry.alerts()] == ["recovered"]


def test_two_who_see_the_same_at_once_raise_it_once(world: World) -> None:
    began: list[bool] = []
    start = Barrier(4)

    def see() -> None:
        start.wait()
        began.append(world.engine.alerts.begin(fault()))

    threads = [Thread(target=see) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(began) == [False, False, False, True]
    assert len(world.engine.inquiry.alerts()) == 1


# -- delivery


def test_a_beginning_and_an_end_are_told_once_each(world: World) -> None:
    receiver = Receiver()
    world.engine.alerts.begin(fault())
    for _ in range(2):
        world.engine.alerts.deliver(routes(), receiver)
    world.advance(minutes=5)
    world.engine.alerts.end("k:x")
    for _ in range(2):
        world.engine.alerts.deliver(routes(), receiver)
    first, second = receiver.got
    assert (first.title, first.severity, first.good_news) == ("[pipeline] error: pool p: check failed", "error", False)
    assert "x is broken" in first.body
    assert (second.title, second.good_news) == ("[pipeline] recovered: pool p: check failed", True)
    assert "lasted 5m" in second.body
    assert [one[1:3] for one in deliveries(world)] == [("raised", "sent"), ("recovered", "sent")]


def test_what_is_due_together_is_one_message(world: World) -> None:
    receiver = Receiver()
    world.engine.alerts.begin(fault("a", "warning"))
    world.engine.alerts.begin(fault("b", "error"))
    assert world.engine.alerts.deliver(routes(), receiver) == Delivered(messages=1, notices=2)
    assert receiver.got[0].title == "[pipeline] error: pool p: check failed (and 1 more)"
    assert all(f"{name} is broken" in receiver.got[0].body for name in "ab")


def test_each_route_hears_what_concerns_it(world: World) -> None:
    text = """
routes:
  - {name: errors, url: "json://e", severities: [error]}
  - {name: farm, url: "json://f", pools: [farm], recovery: false}
"""
    told: dict[str, list[str]] = {}
    world.engine.alerts.begin(fault("a", "warning", "farm"))
    world.engine.alerts.begin(fault("b", "error", "p"))
    world.engine.alerts.end("k:a")
    world.engine.alerts.deliver(routes(text), lambda url, message: told.setdefault(url, []).append(message.body))
    assert {url: ["a is broken" in body for body in bodies] for url, bodies in told.items()} == {"json://e": [False], "json://f": [True]}
    assert [one[:2] for one in deliveries(world)] == [("farm", "raised"), ("errors", "raised")]


def test_no_alert_is_lost_while_the_receiver_is_down(world: World) -> None:
    receiver = Receiver(down=True)
    world.engine.alerts.begin(fault())
    assert world.engine.alerts.deliver(routes(), receiver).failed == {"r": "no answer"}
    assert deliveries(world) == [("r", "raised", "due", 1, "no answer")]
    assert world.engine.alerts.deliver(routes(), receiver).failed == {}, "the route rests after a failure"
    world.advance(seconds=BACKOFF_S + 1)
    assert world.engine.alerts.deliver(routes(), receiver).failed == {"r": "no answer"}
    world.advance(seconds=BACKOFF_S + 1)
    assert world.engine.alerts.deliver(routes(), receiver).failed == {}, "and longer after a second one"
    world.engine.alerts.end("k:x")
    receiver.down = False
    world.advance(hours=1)
    assert world.engine.alerts.deliver(routes(), receiver).notices == 2
    assert [one[2] for one in deliveries(world)] == ["sent", "sent"]
    assert receiver.got[0].title.startswith("[pipeline] error")
    assert "RECOVERED" in receiver.got[0].body


def test_a_message_is_sent_again_when_its_deliverer_died_and_not_before(world: World) -> None:
    class Killed(BaseException):
        pass

    def die() -> None:
        raise Killed

    world.engine.alerts.begin(fault())
    with pytest.raises(Killed):
        world.engine.alerts.deliver(routes(), Receiver(then=die))
    receiver = Receiver()
    world.engine.alerts.deliver(routes(), receiver)
    assert receiver.got == []
    world.advance(seconds=LEASE_S + 1)
    world.engine.alerts.deliver(routes(), receiver)
    assert len(receiver.got) == 1


def test_two_deliverers_never_send_the_same_at_once(world: World) -> None:
    """The second one comes while the first one's message is on its way, with more to tell."""
    second = Receiver()

    def meanwhile() -> None:
        world.engine.alerts.begin(fault("b"))
        world.engine.alerts.deliver(routes(), second)

    first = Receiver(then=meanwhile)
    world.engine.alerts.begin(fault("a"))
    world.engine.alerts.deliver(routes(), first)
    assert ["a is broken" in message.body for message in first.got + second.got] == [True, False]
    assert ["b is broken" in message.body for message in first.got + second.got] == [False, True]


def test_a_deliverer_whose_lease_ran_out_settles_nothing(world: World) -> None:
    receiver = Receiver()

    def overtaken() -> None:
        world.advance(seconds=LEASE_S + 1)
        receiver.then = lambda: None
        receiver.down = True
        world.engine.alerts.deliver(routes(), receiver)
        receiver.down = False

    receiver.then = overtaken
    world.engine.alerts.begin(fault())
    world.engine.alerts.deliver(routes(), receiver)
    assert deliveries(world)[0][2:4] == ("due", 2), "the one who came after it has it, and failed: it is tried again"


def test_a_route_is_not_disturbed_more_often_than_it_says_and_what_waits_comes_in_one_message(world: World) -> None:
    calm = routes("routes: [{name: r, url: 'json://e', at_most: {messages: 2, per: 1h}}]")
    receiver = Receiver()
    for number in range(5):
        world.engine.alerts.begin(fault(f"n{number}"))
        world.engine.alerts.deliver(calm, receiver)
    assert len(receiver.got) == 2
    world.advance(hours=1, seconds=1)
    world.engine.alerts.deliver(calm, receiver)
    assert len(receiver.got) == 3
    assert all(f"n{number} is broken" in receiver.got[2].body for number in (2, 3, 4))


def test_one_that_is_always_refused_does_not_stop_the_others(world: World) -> None:
    got: list[str] = []

    def picky(url: str, message: Message) -> None:
        if "poison" in message.body:
            raise NotSent("400")
        got.append(message.body)

    world.engine.alerts.begin(fault("poison"))
    world.engine.alerts.begin(fault("good"))
    for _ in range(8):
        world.engine.alerts.deliver(routes(), picky)
        world.advance(hours=1, seconds=1)
    assert len(got) == 1
    assert "good is broken" in got[0]


def test_who_acknowledges_is_spared_the_beginning_but_not_the_end(world: World) -> None:
    down, up = Receiver(down=True), Receiver()
    world.engine.alerts.begin(fault())
    world.engine.alerts.deliver(routes(), down)
    number = world.engine.inquiry.alerts()[0]["alert_id"]
    assert world.engine.alerts.ack([number, 4711], actor="ann") == [number]
    assert world.engine.alerts.ack([number], actor="bob") == []
    world.engine.alerts.end("k:x")
    world.advance(hours=1)
    world.engine.alerts.deliver(routes(), up)
    assert [message.title.split(":")[0] for message in up.got] == ["[pipeline] recovered"]
    assert deliveries(world)[0][2:] == ("dropped", 1, "acknowledged by ann")


def test_when_it_gets_worse_those_are_told_who_only_hear_of_worse(world: World) -> None:
    errors = routes("routes: [{name: errors, url: 'json://e', severities: [error]}]")
    receiver = Receiver()
    world.engine.alerts.begin(fault(severity="warning"))
    world.engine.alerts.deliver(errors, receiver)
    world.advance(minutes=1)
    world.engine.alerts.begin(fault(severity="error"))
    world.engine.alerts.deliver(errors, receiver)
    assert len(receiver.got) == 1


def test_a_reference_that_leads_nowhere_is_a_failure_like_any_other(world: World) -> None:
    world.engine.alerts.begin(fault())
    lost = routes("routes: [{name: r, url: 'env:PIPELINE_NO_SUCH_URL'}]")
    failed = world.engine.alerts.deliver(lost, Receiver()).failed
    assert failed == {"r": "env:PIPELINE_NO_SUCH_URL: expected an Apprise URL there, found nothing"}


# -- the watch


def watched(world: World, *more: str) -> dict[str, str]:
    """Kind and state of the alerts after another look. Other tests' transactions hold the feed of all back: who asks for it names it."""
    world.engine.alerts.watch()
    found = {alert["kind"]: alert["state"] for alert in reversed(world.engine.inquiry.alerts())}
    return {kind: state for kind, state in found.items() if kind != "lagging_feed" or kind in more}


def test_work_that_waits_too_long_is_seen_where_no_cycle_runs_and_ends_when_it_is_selected(world: World) -> None:
    world.policy({"checks": {"max_wait": "2h", "max_age": "1h", "severity": {"nobody_starves": "error"}}})
    world.submit("a", 5)
    world.advance(hours=1)
    assert watched(world) == {"backlog_overlooked": "open"}
    world.advance(hours=1)
    assert watched(world) == {"backlog_overlooked": "open", "starving": "open"}
    assert {alert["kind"]: alert["severity"] for alert in world.engine.inquiry.alerts()}["starving"] == "error"
    assert "such as a" in world.engine.inquiry.alerts()[0]["message"]
    world.cycle()
    assert watched(world) == {"backlog_overlooked": "recovered", "starving": "recovered"}


def test_a_cycle_that_nobody_finishes_is_stuck_until_somebody_does(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.submit("a", 5)

    class Killed(BaseException):
        pass

    def die(_: Commit) -> None:
        raise Killed

    with monkeypatch.context() as broken:
        broken.setattr(Commit, "run", die)
        with pytest.raises(Killed):
            world.cycle()
    world.advance(minutes=5)
    assert watched(world) == {}
    world.advance(minutes=2)
    assert watched(world) == {"stuck_cycle": "open"}
    world.engine.upkeep.sweep()
    assert watched(world) == {"stuck_cycle": "recovered"}


def test_a_transaction_that_holds_the_feed_back_is_noticed(world: World) -> None:
    engine = sa.create_engine(world.engine.database.admin, poolclass=sa.NullPool)
    with engine.connect() as slow, slow.begin():
        slow.exec_driver_sql("select pg_current_xact_id()")
        world.submit("a", 5)
        world.advance(minutes=6)
        assert watched(world, "lagging_feed") == {"lagging_feed": "open"}


def test_a_hundred_pools_are_watched_in_as_many_statements_as_one(world: World) -> None:
    counted: list[str] = []
    sa.event.listen(world.engine.database.engine, "before_cursor_execute", lambda *given: counted.append(given[2]))
    world.engine.alerts.watch()
    for_one = len(counted)
    for number in range(100):
        world.engine.intake.create_pool(f"q{number}")
    counted.clear()
    world.engine.alerts.watch()
    assert len(counted) == for_one
