"""Cycles in this very process, seen by Dagster: a real run with its checks, or the bare record of one that ran without it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from typing import Any, Final

import dagster as dg
from dagster._core.errors import DagsterAssetCheckFailedError  # of all errors that a run raises, this one has no public name
from dagster._core.instance.ref import InstanceRef  # the public get() reads the environment, and this process has its own

from pipeline_project.core.errors import CheckFailed, Unknown, UsageError
from pipeline_project.core.snapshot import Mode
from pipeline_project.engine import actors
from pipeline_project.engine.cycle import Report
from pipeline_project.engine.engine import Engine
from pipeline_project.orchestration import assets, definitions, home
from pipeline_project.orchestration.metadata import account, describe
from pipeline_project.orchestration.partitions import POOLS, key_of
from pipeline_project.orchestration.requests import IN_FLIGHT, LIVE_CYCLE, PARTITION_TAG, CycleRequest
from pipeline_project.orchestration.versions import DATA_VERSION, data_version, observed
from pipeline_project.settings import Settings, load
from pipeline_project.store import dagster_database

QUIET: Final = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRoom:
    """Dagster over an engine that is open already.

    instance  where runs and lineage are kept; None = they are forgotten at once
    """

    engine: Engine
    job: dg.JobDefinition
    instance: dg.DagsterInstance | None

    def run_cycle(self, pool: str, day: date, mode: Mode = Mode.LIVE) -> Report:
        """The four assets and all checks, as one run. The engine's report, and `checks`: passed, warned, failed.

        Raises what the engine raises, and CheckFailed where a blocking check stopped the run before its commit.
        """
        asked, run_id = CycleRequest(pool=pool, day=day, mode=mode), str(uuid.uuid4())
        with _kept_or_forgotten(self.instance) as instance:
            instance.add_dynamic_partitions(POOLS.name or "", [pool])
            try:
                run = self.job.execute_in_process(
                    run_config=QUIET,
                    instance=instance,
                    run_id=run_id,
                    partition_key=asked.partition_key,
                    tags=asked.tags,
                    resources={"engine": self.engine.acting_as(actors.run(run_id))},
                )
            except DagsterAssetCheckFailedError as failure:
                raise CheckFailed(f"pool {pool}, {day}: {failure}") from failure
        report: Report = run.output_for_node(assets.committed_decisions.op.name)
        return {**report, "checks": _counted(run.get_asset_check_evaluations())}

    def run_in_processes(self, pool: str, day: date) -> None:
        """The same cycle with a process for each step, as a multiprocess executor has it: to compare. Reads the environment."""
        if self.instance is None:
            raise UsageError("a run in processes of its own needs an instance that is kept: the processes meet there")
        asked = CycleRequest(pool=pool, day=day, mode=Mode.LIVE)
        self.instance.add_dynamic_partitions(POOLS.name or "", [pool])
        tags = {**asked.tags, PARTITION_TAG: str(asked.partition_key)}
        with dg.execute_job(dg.reconstructable(in_processes), self.instance, tags=tags, run_config=QUIET) as run:
            if not run.success:
                raise CheckFailed(f"pool {pool}, {day}: run {run.run_id} failed; its events say why")

    def stamps(self, run_id: str) -> tuple[datetime, datetime]:
        """When the run was made, and when its process began to work."""
        record = self.instance.get_run_record_by_id(run_id) if self.instance else None
        if record is None or record.start_time is None:
            raise Unknown(f"run {run_id}: expected a run that has started, found none")
        return record.create_timestamp, datetime.fromtimestamp(record.start_time, UTC)

    def is_idle(self) -> bool:
        """Whether no run of any job is queued or at work."""
        return self.instance is None or not self.instance.get_runs(dg.RunsFilter(statuses=IN_FLIGHT), limit=1)

    def report_runless(self, report: Report) -> bool:
        """Put a cycle that the engine ran by itself into the lineage of its assets; False where none is kept.

        No checks: Dagster stores one such evaluation a partition, ever.
        """
        if self.instance is None:
            return False
        self.instance.add_dynamic_partitions(POOLS.name or "", [report["pool"]])
        partition = key_of(report["day"], report["pool"])
        metadata = {**describe(report), **account(self.engine, report), "origin": "command line"}
        self.instance.report_runless_asset_event(observed(self.engine.inquiry.position()))
        for asset, version in zip(assets.SELECTION, self._versions(report), strict=True):
            event = dg.AssetMaterialization(asset.key, metadata=metadata, partition=partition, tags={DATA_VERSION: version})
            self.instance.report_runless_asset_event(event)
        return True

    def _versions(self, report: Report) -> Iterator[str]:
        """The hashes a run would have given to what the cycle left behind."""
        proposal = self.engine.artifacts.load_proposal(report["pool"], report["cycle"])
        for made in (proposal.graph.snapshot, proposal.graph, proposal, report):
            yield data_version(made)


@contextmanager
def control_room(engine: Engine, chosen: Settings, *, fresh: bool = False) -> Iterator[ControlRoom]:
    """Dagster's storage beside the engine's database, made when missing; with `fresh`, emptied first.

    fresh  for a simulation, whose database is new as well
    """
    if fresh:
        dagster_database.drop(engine.database, chosen)
    variables = home.prepare(chosen, engine.database)
    instance = dg.DagsterInstance.from_ref(InstanceRef.from_dir(variables["DAGSTER_HOME"], overrides=_storage(variables)))
    with instance:
        home.pool_connections(instance)
        yield ControlRoom(engine=engine, job=live_job(chosen), instance=instance)


@cache
def live_job(chosen: Settings) -> dg.JobDefinition:
    return definitions.control_room(chosen).resolve_job_def(LIVE_CYCLE)


def in_processes() -> dg.JobDefinition:
    """The job as each of its processes builds it, from the environment."""
    return definitions.control_room(load(), dg.multiprocess_executor).resolve_job_def(LIVE_CYCLE)


def _storage(variables: Mapping[str, str]) -> Any:
    """The storage that dagster.yaml takes from the environment, said outright."""
    return {"storage": {"postgres": {"postgres_url": variables["DAGSTER_PG_URL"]}}}


@contextmanager
def _kept_or_forgotten(instance: dg.DagsterInstance | None) -> Iterator[dg.DagsterInstance]:
    if instance is not None:
        yield instance
        return
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def _counted(evaluations: Sequence[dg.AssetCheckEvaluation]) -> dict[str, int]:
    failed = [evaluation for evaluation in evaluations if not evaluation.passed]
    warned = sum(evaluation.severity is dg.AssetCheckSeverity.WARN for evaluation in failed)
    return {"passed": len(evaluations) - len(failed), "warned": warned, "failed": len(failed) - warned}
