"""What a run is about: its partition says which day and pool, its tags whether the cycle is live or decides a past day anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, Self

import dagster as dg

from pipeline_project.core.errors import UsageError
from pipeline_project.core.snapshot import Mode
from pipeline_project.orchestration.partitions import day_and_pool_of, key_of

LIVE_CYCLE: Final = "live_cycle"
REPROCESS: Final = "reprocess"
MODE_TAG: Final = "pipeline/mode"
POOL_TAG: Final = "pipeline/pool"
CYCLE_TAG: Final = "pipeline/cycle"
"""Which cycle a run has made: known once its snapshot is taken."""
SEEN_TAG: Final = "pipeline/seen"
"""Position of the newest change that a run's snapshot is sure to have seen."""
MAX_RETRIES_TAG: Final = "dagster/max_retries"
RUN_KEY_TAG: Final = "dagster/run_key"
PARTITION_TAG: Final = "dagster/partition"

IN_FLIGHT_MAX: Final = 200
"""Live cycles queued or running at once, of all pools. Beyond it the daemon is behind, and a longer queue would only be an older one:
what waits here is coalesced, what waits there is not."""

IN_FLIGHT: Final = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleRequest:
    """One cycle that somebody wants."""

    pool: str
    day: date
    mode: Mode

    @classmethod
    def of_run(cls, partition_key: str, tags: Mapping[str, str], today: date) -> Self:
        """Never the clock against the key where there is a tag: a live run may pass midnight.

        Without one (a person in the UI, a backfill) a past day is a reprocess, and today is live.
        """
        day, pool = day_and_pool_of(partition_key)
        tag = tags.get(MODE_TAG, Mode.REPROCESS if day < today else Mode.LIVE)
        if tag not in set(Mode):
            raise UsageError(f"tag {MODE_TAG}: expected one of {', '.join(Mode)}, found {tag!r}")
        return cls(pool=pool, day=day, mode=Mode(tag))

    @property
    def partition_key(self) -> dg.MultiPartitionKey:
        return key_of(self.day, self.pool)

    @property
    def tags(self) -> dict[str, str]:
        return {MODE_TAG: str(self.mode), POOL_TAG: self.pool}

    def run_request(self, run_key: str) -> dg.RunRequest:
        """Dagster's own retries are off for it: whoever asks for a live cycle asks again by itself, and both together would collide."""
        return dg.RunRequest(run_key=run_key, partition_key=self.partition_key, tags={**self.tags, MAX_RETRIES_TAG: "0"})


def pools_in_flight(instance: dg.DagsterInstance) -> set[str]:
    """Pools with a live cycle queued or running: a second one would only wait for it, or be refused by it."""
    runs = instance.get_runs(dg.RunsFilter(job_name=LIVE_CYCLE, tags={MODE_TAG: str(Mode.LIVE)}, statuses=IN_FLIGHT))
    return {run.tags[POOL_TAG] for run in runs if POOL_TAG in run.tags}


def settled(instance: dg.DagsterInstance, run_keys: Sequence[str]) -> dict[str, int]:
    """Of these run keys, those whose run has come to an end that is not a failure, and up to which position its decisions saw the feed.

    One question, however many there are. A run that was never made is not among them: the tick that asked for it was cut off. What a
    person cancelled is, and has seen nothing.
    """
    if not run_keys:
        return {}
    runs = instance.get_runs(dg.RunsFilter(job_name=LIVE_CYCLE, tags={RUN_KEY_TAG: list(run_keys)}))
    return {run.tags[RUN_KEY_TAG]: _seen_by(run) for run in runs if run.status is not dg.DagsterRunStatus.FAILURE}


def _seen_by(run: dg.DagsterRun) -> int:
    return int(run.tags.get(SEEN_TAG, 0)) if run.status is dg.DagsterRunStatus.SUCCESS else 0
