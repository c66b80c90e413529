"""Wakes a pool's cycle when the feed says that something has changed which a new selection could use."""

# No postponed annotations: Dagster reads those of a context.
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Self

import dagster as dg

from pipeline_project.core.snapshot import Mode
from pipeline_project.engine.engine import Engine
from pipeline_project.engine.inquiry import Changes
from pipeline_project.orchestration.partitions import POOLS
from pipeline_project.orchestration.requests import LIVE_CYCLE, CycleRequest, pools_in_flight

ATTEMPTS_MAX: Final = 3
"""Runs for one change. After the last failure the safety-net schedule, or the next change, tries again."""
INTERVAL_S: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Wake:
    """A pool that needs a cycle: since which horizon, and the how-manieth run was asked for; 0 = none yet."""

    horizon: str
    attempt: int

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
        if cursor is None:
            return cls()
        kept = json.loads(cursor)
        wakes = {pool: Wake(horizon=horizon, attempt=attempt) for pool, (horizon, attempt) in kept["wakes"].items()}
        return cls(horizon=kept["horizon"], at=datetime.fromisoformat(kept["at"]), wakes=wakes)

    def cursor(self) -> str:
        wakes = {pool: (wake.horizon, wake.attempt) for pool, wake in self.wakes.items()}
        return json.dumps({"horizon": self.horizon, "at": self.at.isoformat(), "wakes": wakes})

    def read(self, changes: Changes) -> None:
        """Take in what happened. A pool that went to sleep is forgotten: resuming it is a change."""
        self.horizon, self.at = changes.horizon, changes.at
        self.wakes |= {pool: Wake(horizon=changes.horizon, attempt=0) for pool in changes.awake}
        self.wakes = {pool: wake for pool, wake in self.wakes.items() if pool in changes.active}


@dg.sensor(name="pending_work", job_name=LIVE_CYCLE, minimum_interval_seconds=INTERVAL_S, default_status=dg.DefaultSensorStatus.RUNNING)
def pending_work(context: dg.SensorEvaluationContext, engine: dg.ResourceParam[Engine]) -> dg.SensorResult:
    """Submissions, revisions, releases, completions, capacity, policy, resume, a `not_before` that passed; never select and claim."""
    watch = Watch.resumed(context.cursor)
    changes = engine.inquiry.changes(watch.horizon, watch.at)
    watch.read(changes)
    asked = list(_ask(watch, context.instance))
    context.instance.add_dynamic_partitions(POOLS.name or "", asked)  # first: a request for an unknown key would be refused
    requests = [CycleRequest(pool=pool, day=changes.day, mode=Mode.LIVE).run_request(watch.wakes[pool].run_key(pool)) for pool in asked]
    return dg.SensorResult(run_requests=requests, cursor=watch.cursor(), skip_reason=None if requests else _idle(watch))


def _ask(watch: Watch, instance: dg.DagsterInstance) -> Iterable[str]:
    """Pools to ask a run for now. Forgets those whose run is done, and those that failed too often."""
    busy = pools_in_flight(instance)
    for pool, wake in sorted(watch.wakes.items()):
        if pool in busy:
            continue
        if wake.attempt and (not _failed(instance, wake.run_key(pool)) or wake.attempt == ATTEMPTS_MAX):
            del watch.wakes[pool]
            continue
        watch.wakes[pool] = Wake(horizon=wake.horizon, attempt=wake.attempt + 1)
        yield pool


def _failed(instance: dg.DagsterInstance, run_key: str) -> bool:
    """True, too, for a run that was never made: the tick that asked for it was cut off. What a person cancelled is left alone."""
    runs = instance.get_runs(dg.RunsFilter(job_name=LIVE_CYCLE, tags={"dagster/run_key": run_key}), limit=1)
    return not runs or runs[0].status is dg.DagsterRunStatus.FAILURE


def _idle(watch: Watch) -> str:
    if watch.wakes:
        return f"live cycles in flight: {', '.join(sorted(watch.wakes))}"
    return f"nothing has changed up to {watch.horizon}"
