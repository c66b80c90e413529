"""Wakes a pool's cycle when the feed says that something has changed which a new selection could use."""

# No postponed annotations: Dagster reads those of a context.
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, Self

import dagster as dg

from pipeline_project import settings
from pipeline_project.core.snapshot import Mode
from pipeline_project.engine.engine import Engine
from pipeline_project.engine.inquiry import Changes
from pipeline_project.orchestration import expectations
from pipeline_project.orchestration.partitions import POOLS
from pipeline_project.orchestration.requests import IN_FLIGHT_MAX, LIVE_CYCLE, CycleRequest, pools_in_flight, settled

ATTEMPTS_MAX: Final = 3
"""Runs for one change. After the last failure the safety-net schedule, or the next change, tries again."""
INTERVAL_S: Final = 2
"""Shorter than the daemon's own turn of 5 s, so that every turn looks; 5 would miss every other one by some milliseconds."""
WATCH_S: Final = 3.5
"""A tick looks for so long until there is something to ask for. It must have ended, on a slow machine as well, when the daemon's next turn
comes: a sensor whose tick still runs then waits for the one after."""
LOOK_S: Final = 0.25
"""Between two of its looks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wake:
    """A pool that needs a cycle: the position of the newest change that says so, and the how-manieth run was asked for; 0 = none yet.

    since  the position from which it has waited without being asked for: who has waited longest comes first
    asked  key of the newest run that was asked for, maybe before that change was known; "" = none
    """

    newest: str
    attempt: int
    since: str
    asked: str

    def tried(self, pool: str, at: datetime) -> Self:
        """Once more. Dagster skips a key it has seen, whatever became of its run; so each attempt has its own.

        Two changes may stand at one position: a `not_before` passes while a transaction runs that ends later.
        """
        attempt = self.attempt + 1
        return replace(self, attempt=attempt, asked=f"{pool}:{self.newest}:{at:%Y%m%dT%H%M%S.%f}:{attempt}")

    def done(self, settled: Mapping[str, int]) -> bool:
        """Whether a run that was asked for because of the change has ended well, or an earlier one that saw it all the same."""
        return self.asked in settled and (self.attempt > 0 or settled[self.asked] >= int(self.newest))


@dataclass(slots=True, kw_only=True)
class Watch:
    """What the sensor remembers between two ticks: how far it has read, and which pools it has not seen done."""

    horizon: str = "0"
    at: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    wakes: dict[str, Wake] = field(default_factory=dict)

    @classmethod
    def resumed(cls, cursor: str | None) -> Self:
        """Where the last tick stopped; a cursor of an earlier version knows less of each pool, which costs a run at most."""
        if cursor is None:
            return cls()
        kept = json.loads(cursor)
        wakes = {
            pool: Wake(newest=newest, attempt=attempt, since=more[0] if more else newest, asked=more[1] if len(more) > 1 else "")
            for pool, (newest, attempt, *more) in kept["wakes"].items()
        }
        return cls(horizon=kept["horizon"], at=datetime.fromisoformat(kept["at"]), wakes=wakes)

    def cursor(self) -> str:
        wakes = {pool: (wake.newest, wake.attempt, wake.since, wake.asked) for pool, wake in self.wakes.items()}
        return json.dumps({"horizon": self.horizon, "at": self.at.isoformat(), "wakes": wakes})

    def read(self, changes: Changes) -> None:
        """Take in what happened. A pool that went to sleep is forgotten: resuming it is a change."""
        if int(changes.horizon) < int(self.horizon):  # another server's, that counts anew: it tells of everything again
            self.wakes = {}
        self.horizon, self.at = changes.horizon, changes.at
        for pool, newest in changes.awake.items():
            before = self.wakes.get(pool)
            since = before.since if before and not before.attempt else newest
            self.wakes[pool] = Wake(newest=newest, attempt=0, since=since, asked=before.asked if before else "")
        self.wakes = {pool: wake for pool, wake in self.wakes.items() if pool in changes.active}


@dg.sensor(name="pending_work", job_name=LIVE_CYCLE, minimum_interval_seconds=INTERVAL_S, default_status=dg.DefaultSensorStatus.RUNNING)
def pending_work(context: dg.SensorEvaluationContext, engine: dg.ResourceParam[Engine]) -> dg.SensorResult:
    """Submissions, revisions, releases, completions, capacity, policy, resume, a `not_before` that passed; never select and claim."""
    if settings.load().run_launcher == "process":
        expectations.lend()  # the runs begin as processes of this one
    watch, until = Watch.resumed(context.cursor), time.monotonic() + WATCH_S
    while True:
        changes = engine.inquiry.changes(watch.horizon, watch.at)
        watch.read(changes)
        asked = list(_ask(watch, context.instance, writing=set(changes.writing)))
        if asked or time.monotonic() >= until:
            break
        time.sleep(LOOK_S)
    context.instance.add_dynamic_partitions(POOLS.name or "", asked)  # first: a request for an unknown key would be refused
    requests = [CycleRequest(pool=pool, day=changes.day, mode=Mode.LIVE).run_request(watch.wakes[pool].asked) for pool in asked]
    return dg.SensorResult(run_requests=requests, cursor=watch.cursor(), skip_reason=None if requests else _idle(watch))


def _ask(watch: Watch, instance: dg.DagsterInstance, *, writing: set[str]) -> Iterable[str]:
    """Pools to ask a run for now, the longest waiting first. Forgets those whose run is done, and those that failed too often.

    Two questions to Dagster, however many pools there are.
    """
    if not watch.wakes:
        return
    busy = pools_in_flight(instance)
    ended = settled(instance, [wake.asked for pool, wake in watch.wakes.items() if wake.asked and pool not in busy])
    room = max(0, IN_FLIGHT_MAX - len(busy))
    for pool, wake in sorted(watch.wakes.items(), key=lambda one: (int(one[1].since), one[0])):
        if pool in busy:
            continue
        if wake.attempt == ATTEMPTS_MAX or wake.done(ended):
            del watch.wakes[pool]
        elif pool not in writing and room:
            room -= 1
            watch.wakes[pool] = wake.tried(pool, watch.at)
            yield pool


def _idle(watch: Watch) -> str:
    if watch.wakes:
        return f"live cycles in flight, or waiting for room in the queue: {', '.join(sorted(watch.wakes))}"
    return f"nothing has changed up to {watch.horizon}"
