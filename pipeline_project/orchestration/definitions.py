"""Everything Dagster loads. Importing this opens nothing and reads no environment: `defs` is called when Dagster asks."""

from __future__ import annotations

import dagster as dg

from pipeline_project import settings
from pipeline_project.orchestration import alerts, assets, checks, io, jobs, own_checks, resources, schedules, sensors, structure
from pipeline_project.orchestration.partitions import day_and_pool
from pipeline_project.orchestration.versions import code_version
from pipeline_project.settings import Settings


@dg.definitions
def defs() -> dg.Definitions:
    """The control room of the installation whose settings are in the environment."""
    return control_room(settings.load())


def control_room(chosen: Settings, executor: dg.ExecutorDefinition = dg.in_process_executor) -> dg.Definitions:
    """The four assets on the installation's days and pools, their checks, and what sets them going."""
    partitions = day_and_pool(chosen)
    structure.load_suite(chosen.snapshot_suite)  # now: a broken file must not wait for the first cycle

    def placed(spec: dg.AssetSpec) -> dg.AssetSpec:
        made_by = assets.MADE_BY[spec.key.to_user_string()]
        return spec.replace_attributes(partitions_def=partitions, code_version=code_version(*made_by))

    selection = [asset.map_asset_specs(placed) for asset in assets.SELECTION]
    return dg.Definitions(
        assets=[assets.work_items, *selection],
        asset_checks=checks.checks(partitions, own_checks.load(chosen.checks_folder)),
        jobs=[jobs.live_cycle, jobs.reprocess, jobs.rollback_cycle, jobs.sweep, jobs.pull_sources],
        schedules=[schedules.pull_sources, schedules.cycle_all_pools, schedules.sweep],
        sensors=[
            sensors.pending_work,
            *(alerts.failed_checks, alerts.failed_runs, alerts.recovered_runs, alerts.alert_watch),
            *_of_launcher(chosen),
        ],
        resources={"engine": resources.engine, "artifacts": io.artifacts},
        executor=executor,  # in process: a process for each step would start Python eleven times a cycle
    )


def _of_launcher(chosen: Settings) -> list[dg.SensorDefinition]:
    """What only runs on other machines need; imported there, as it brings Celery along."""
    if chosen.run_launcher == "process":
        return []
    from pipeline_project.orchestration.lost_workers import lost_workers

    return [lost_workers]
