"""Which routes an installation has, and delivery to them: what the sensor, the command line and cron share."""

from __future__ import annotations

from functools import partial

from pipeline_project.core import alert_routes
from pipeline_project.core.alert_routes import Route
from pipeline_project.core.errors import UsageError
from pipeline_project.engine import sending
from pipeline_project.engine.alerts import Delivered, Sender
from pipeline_project.engine.engine import Engine
from pipeline_project.settings import Settings


def routes_of(chosen: Settings) -> tuple[Route, ...]:
    """The routes of the file; none where there is no file and none was named. Raises UsageError, RoutesRefused."""
    path = chosen.alert_routes_file
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if chosen.alert_routes:
            raise UsageError(f"PIPELINE_ALERT_ROUTES: expected a file, found none at {path}") from None
        return ()
    except (OSError, UnicodeDecodeError) as failure:
        raise UsageError(f"{path}: cannot be read ({failure})") from None
    return alert_routes.parse(text, str(path))


def sender_of(chosen: Settings) -> Sender:
    """Sends by Apprise, within the networks that the installation allows."""
    allowed = [text.strip() for text in chosen.alert_targets.split(",") if text.strip()]
    sending.networks(allowed)
    return partial(sending.send, allowed=allowed)


def deliver(engine: Engine, chosen: Settings, routes: tuple[Route, ...]) -> Delivered:
    return engine.alerts.deliver(routes, sender_of(chosen))
