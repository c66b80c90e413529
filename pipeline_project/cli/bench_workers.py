"""How fast Celery workers get many pools their cycle, and what is lost when one of them is killed: a whole installation, made for it."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline_project.cli import scale_out, up
from pipeline_project.cli.programs import Program, running
from pipeline_project.core.errors import PipelineError

if TYPE_CHECKING:
    import dagster as dg

    from pipeline_project.engine.engine import Engine

LIMIT_S: Final = 300.0
PENDING_ITEMS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """An installation that runs: its engine, Dagster's storage and the programs."""

    engine: Engine
    instance: dg.DagsterInstance
    programs: Sequence[Program]
    workers: Sequence[Program]
    pools: Sequence[str]

    def published(self) -> int:
        """Pools whose first cycle is published."""
        rows = self.engine.inquiry.cycles(None, most=10 * len(self.pools))
        return len({row["pool"] for row in rows if row["status"] == "published"})

    def wait(self, what: str, come: Callable[[], bool]) -> None:
        give_up = time.monotonic() + LIMIT_S
        while not come():
            for program in self.programs:
                program.refuse_ended()
            if time.monotonic() > give_up:
                raise PipelineError(f"{what}: not within {LIMIT_S:.0f} s; {self.published()} of {len(self.pools)} pools have their cycle")
            time.sleep(0.05)

    def kill_one(self) -> int:
        """kill -9 of a worker and all its processes, as a machine that goes away, while it has a run. How many runs went with it."""
        import dagster as dg

        begun = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])
        self.wait("a run to kill", lambda: len(self.instance.get_runs(begun)) >= len(self.workers))
        os.killpg(self.workers[0].process.pid, signal.SIGKILL)
        time.sleep(1.0)  # what the others were about to end, ends
        return len(self.instance.get_runs(begun))


def measure(workers: int, pools: int, *, items: int = PENDING_ITEMS, kill: bool = False) -> dict[str, Any]:
    """One row: seconds from the first run's begin to the last one's end, and from the change to the last published cycle."""
    with up.stoppable(), _installation(workers, pools) as trial:
        began = time.time()
        for number, pool in enumerate(trial.pools):
            trial.engine.intake.submit(pool, _items(items, number))
        trial.wait("the first cycles", lambda: trial.published() >= (pools // 4 if kill else pools))
        lost = trial.kill_one() if kill else 0
        trial.wait("every pool's cycle", lambda: trial.published() == pools)
        committed = time.time()
        trial.wait("the last run", lambda: not _runs_in_flight(trial.instance))
        return {
            "workers": workers,
            "pools": pools,
            "items": items,
            "killed": int(kill),
            **_judged(trial, began, committed),
            "suspects": lost,
        }


@contextmanager
def _installation(workers: int, pools: int) -> Iterator[Trial]:
    """In a home of its own, with an embedded server and a Redis of its own: nothing of it is left, and nobody else's runs are in it."""
    from pipeline_project import settings
    from pipeline_project.engine.engine import Engine
    from pipeline_project.orchestration.inprocess import control_room
    from pipeline_project.store import schema
    from pipeline_project.store.database import Database

    with tempfile.TemporaryDirectory(prefix="pipeline-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)  # the embedded server may run under an account of its own
        chosen = settings.load().model_copy(update={"home": Path(folder), "database_url": "bench", "artifacts": None, "broker_url": None})
        database = Database.find(None, chosen)
        schema.create(database)
        names = [f"pool-{number:02d}" for number in range(1, pools + 1)]
        with up.environment(chosen, workers) as (running_as, variables, logs, _), Engine.open(None, chosen) as engine:
            for name in names:
                engine.intake.create_pool(name)
                engine.intake.put_resources(name, [{"key": f"r{n}", "capacity": 3} for n in range(40)])
            with control_room(engine, running_as) as room, _programs(workers, variables, logs) as (daemon, started):
                assert room.instance
                trial = Trial(engine=engine, instance=room.instance, programs=[daemon], workers=started, pools=names)
                trial.wait("the workers", lambda: all("ready." in worker.log.read_text(errors="replace") for worker in started))
                trial.wait("the sensor's first look", lambda: "pending_work" in daemon.log.read_text(errors="replace"))
                yield trial
        database.close()
        if database.server:
            database.server.stop()


@contextmanager
def _programs(workers: int, variables: dict[str, str], logs: Path) -> Iterator[tuple[Program, Sequence[Program]]]:
    folder = Path(variables["DAGSTER_HOME"])
    command = up.dagster_program("dagster-daemon", "run")
    with running("dagster-daemon", command, variables, folder, logs) as daemon, scale_out.workers(workers, variables, logs) as started:
        yield daemon, started


def _items(count: int, seed: int) -> list[dict[str, Any]]:
    """Each wants one of three resources that many want."""
    return [
        {"key": f"item-{n}", "weight": 1 + (n * 7919 + seed) % 200, "demands": {f"r{(n * k + seed) % 40}": 1 for k in (1, 3, 7)}}
        for n in range(count)
    ]


def _runs_in_flight(instance: dg.DagsterInstance) -> int:
    import dagster as dg

    from pipeline_project.orchestration.requests import IN_FLIGHT, LIVE_CYCLE

    return len(instance.get_runs(dg.RunsFilter(job_name=LIVE_CYCLE, statuses=IN_FLIGHT)))


def _judged(trial: Trial, began: float, committed: float) -> dict[str, Any]:
    import dagster as dg

    from pipeline_project.orchestration.requests import LIVE_CYCLE

    records = [record for record in trial.instance.get_run_records(dg.RunsFilter(job_name=LIVE_CYCLE)) if record.start_time]
    ended = [record for record in records if record.dagster_run.status is dg.DagsterRunStatus.SUCCESS]
    seconds = max(record.end_time or 0.0 for record in ended) - min(record.start_time or 0.0 for record in records)
    return {
        "seconds": round(seconds, 2),
        "per_minute": round(60 * len(ended) / seconds, 1),
        "change_to_last_commit_s": round(committed - began, 2),
        "runs": len(records),
        "failed": sum(record.dagster_run.status is dg.DagsterRunStatus.FAILURE for record in records),
        "cycles": trial.published(),
        "invariants_violated": len(trial.engine.upkeep.check()),
    }
