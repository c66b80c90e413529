"""A Celery worker that executes Dagster's runs: `pipeline exec -- python -m pipeline_project.orchestration.worker --concurrency 2`.

The arguments are those of `celery worker`. Each of its processes loads the definitions once, so that a run costs no import.
"""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING, Any, Final

from pipeline_project import settings
from pipeline_project.core.errors import UsageError

if TYPE_CHECKING:
    from celery import Celery

CONFIG: Final[dict[str, Any]] = {
    # A worker takes what it can begin at once: a run that waits behind a long one would be late, and lost for a while if both died.
    "worker_prefetch_multiplier": 1,
    "worker_disable_prefetch": True,
    # What a worker took and did not begin before it died goes to another one after so long; well within Dagster's start timeout.
    # What was begun is never repeated by Celery: Dagster's run monitoring decides about that.
    "broker_transport_options": {"visibility_timeout": 60},
    "task_acks_late": False,
    # How a run ended is in Dagster's storage; Redis needs it only while run monitoring may ask.
    "result_expires": 24 * 3600,
    "broker_connection_retry_on_startup": True,
    "task_default_queue": "dagster",
    "worker_hijack_root_logger": False,
    # Our programs count on their own exit: a worker that lost Redis waits for it, and does not drop the run it is in.
    "worker_cancel_long_running_tasks_on_connection_loss": False,
}

ANSWER_S: Final = 2.0
"""A worker answers from the process that does no work: a busy one is as fast as an idle one, milliseconds."""


def app(broker: str) -> Celery:
    """Dagster's own tasks on that broker; the launcher in dagster.celery.yaml sends them."""
    from dagster_celery.make_app import make_app
    from dagster_celery.tasks import create_execute_job_task, create_resume_job_task

    made: Celery = make_app({"broker": broker, "backend": broker, "config_source": CONFIG})
    create_execute_job_task(made)
    create_resume_job_task(made)
    return made


def preload(**_: Any) -> None:
    """What every run needs, in the process that will execute it: seconds, once instead of each time."""
    from pipeline_project.orchestration import definitions, expectations

    expectations.load()
    definitions.control_room(settings.load())


def is_alive(broker: str) -> bool:
    """Whether a worker on this machine answers: for health checks."""
    answers = app(broker).control.ping(timeout=ANSWER_S) or []
    return any(name.rpartition("@")[2] == socket.gethostname() for answer in answers for name in answer)


def main(arguments: list[str]) -> None:
    from celery.signals import worker_process_init

    broker = settings.load().broker_url
    if not broker:
        raise UsageError(
            "a worker: expected the Redis that hands it runs in PIPELINE_BROKER_URL, such as redis://redis:6379/0, found nothing"
        )
    if arguments == ["--is-alive"]:
        sys.exit(0 if is_alive(broker) else f"no worker on {socket.gethostname()} answers")
    worker_process_init.connect(preload, weak=False)
    app(broker).worker_main(["worker", "--queues", "dagster", *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
