"""Wakes a pool's cycle when the feed says that something has changed which a new selection could use."""

# No postponed annotations: Dagster reads those of a context.
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, Self

import dagster as dg

from pipeline_project.core.snapshot import Mode
from pipeline_project.engine.engine import Engine
from pipeline_project.engine.inquiry import Changes
from pipeline_project.orchestration.partitions import POOLS
from pipeline_project.orchestration.requests import IN_FLIGHT_MAX, LIVE_CYCLE, CycleRequest, pools_in_flight, settled

ATTEMPTS_MAX: Final = 3
"""Runs for one change. After the last failure the safety-net schedule, or the next change, tries again."""
INTERVAL_S: Final = 2
"""Shorter than the daemon's own turn of 5 s, so that every turn looks; 5 would miss every other one by some milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wake:
    """A pool that needs a cycle: the newest horizon that says so, and the how-manieth run was asked for; 0 = none yet.

    since  the horizon from which it has waited without being asked for: who has waited longest comes first
    """

    horizon: str
    attempt: int
    since: str

    def run_key(self, pool: str) -> str:
        """Dagster skips a key it has seen, whatever became of its run; so each attempt has its own."""
        return f"{pool}:{self.horizon}:{self.attempt}"


@dataclass(slots=True, kw_only=True)
class Watch:
    """What the sensor remembers between two ticks: how far it has read, and which pools it has not seen done."""

    horizon: str = "0"
    at: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    wakes: dict[str, Wake] = field(default_factory=dict)

    @classmethod
    def resumed(cls, cursor: str | None) -> Self:
        """Where the last tick stopped; one from before there was `since` counts as waiting from its horizon on."""
        if cursor is None:
            return cls()
        kept = json.loads(cursor)
        wakes = {
            pool: Wake(horizon=horizon, attempt=attempt, since=since[0] if since else horizon)
            for pool, (horizon, attempt, *since) in kept["wakes"].items()
        }
        return cls(horizon=kept["horizon"], at=datetime.fromisoformat(kept["at"]), wakes=wakes)

    def cursor(self) -> str:
        wakes = {pool: (wake.horizon, wake.attempt, wake.since) for pool, wake in self.wakes.items()}
        return json.dumps({"horizon": self.horizon, "at": self.at.isoformat(), "wakes": wakes})

    def read(self, changes: Changes) -> None:
        """Take in what happened. A pool that went to sleep is forgotten: resuming it is a change."""
        self.horizon, self.at = changes.horizon, changes.at
        for pool in changes.awake:
            before = self.wakes.get(pool)
            since = before.since if before and not before.attempt else changes.horizon
            self.wakes[pool] = Wake(horizon=changes.horizon, attempt=0, since=since)
        self.wakes = {pool: wake for pool, wake in self.wakes.items() if pool in changes.active}


@dg.sensor(name="pending_work", job_name=LIVE_CYCLE, minimum_interval_seconds=INTERVAL_S, default_status=dg.DefaultSensorStatus.RUNNING)
def pending_work(context: dg.SensorEvaluationContext, engine: dg.ResourceParam[Engine]) -> dg.SensorResult:
    """Submissions, revisions, releases, completions, capacity, policy, resume, a `not_before` that passed; never select and claim."""
    watch = Watch.resumed(context.cursor)
    changes = engine.inquiry.changes(watch.horizon, watch.at)
    watch.read(changes)
    asked = list(_ask(watch, context.instance, writing=set(changes.writing)))
    context.instance.add_dynamic_partitions(POOLS.name or "", asked)  # first: a request for an unknown key would be refused
    requests = [CycleRequest(pool=pool, day=changes.day, mode=Mode.LIVE).run_request(watch.wakes[pool].run_key(pool)) for pool in asked]
    return dg.SensorResult(run_requests=requests, cursor=watch.cursor(), skip_reason=None if requests else _idle(watch))


def _ask(watch: Watch, instance: dg.DagsterInstance, *, writing: set[str]) -> Iterable[str]:
    """Pools to ask a run for now, the longest waiting first. Forgets those whose run is done, and those that failed too often.

    Two questions to Dagster, however many pools there are.
    """
    busy = pools_in_flight(instance)
    done = settled(instance, [wake.run_key(pool) for pool, wake in watch.wakes.items() if wake.attempt and pool not in busy])
    room = max(0, IN_FLIGHT_MAX - len(busy))
    for pool, wake in sorted(watch.wakes.items(), key=lambda one: (int(one[1].since), one[0])):
        if pool in busy:
            continue
        if wake.attempt and (wake.run_key(pool) in done or wake.attempt == ATTEMPTS_MAX):
            del watch.wakes[pool]
        elif pool not in writing and room:
            room -= 1
            watch.wakes[pool] = replace(wake, attempt=wake.attempt + 1)
            yield pool


def _idle(watch: Watch) -> str:
    if watch.wakes:
        return f"live cycles in flight, or waiting for room in the queue: {', '.join(sorted(watch.wakes))}"
    return f"nothing has changed up to {watch.horizon}"
