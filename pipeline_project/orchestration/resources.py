"""The engine, opened when a run, a tick or a check first needs it, and closed after it."""

from collections.abc import Iterator

import dagster as dg

from pipeline_project import settings
from pipeline_project.engine import actors
from pipeline_project.engine.engine import Engine
from pipeline_project.orchestration import home


@dg.resource(description="The engine on the database that PIPELINE_DATABASE_URL names")
def engine(context: dg.InitResourceContext) -> Iterator[Engine]:
    """Acts under the run's name, so that the audit trail leads back to it. A tick of a sensor is no run.

    Raises DatabaseUnavailable, or SchemaMismatch with the command that mends it.
    """
    if context.run and context.instance:
        home.pool_connections(context.instance)
    with Engine.open(None, settings.load()) as opened:
        yield opened.acting_as(actors.run(context.run.run_id)) if context.run else opened
