"""Logs go to stderr: lines for a person, or JSON lines with PIPELINE_LOG=json; each with the pool and cycle it belongs to."""

from __future__ import annotations

import logging
import sys

import structlog

from pipeline_project.core.errors import UsageError

FORMATS = ("text", "json")


class _Stderr(logging.Handler):
    """Writes to what is stderr at that moment: a progress bar puts itself in its place to keep lines apart."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
        except Exception:  # logging's own convention: a line that cannot be written must not end the work
            self.handleError(record)


def configure(style: str) -> None:
    """Send standard logging, ours from INFO and others' from WARNING, through structlog. Twice does no harm.

    Raises UsageError for a style that is none.
    """
    if style not in FORMATS:
        raise UsageError(f"PIPELINE_LOG: expected {' or '.join(FORMATS)}, found {style!r}")
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = _Stderr()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_last(style)]
        )
    )
    root = logging.getLogger()
    root.handlers = [kept for kept in root.handlers if not isinstance(kept, _Stderr)] + [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("pipeline_project").setLevel(logging.INFO)


def _last(style: str) -> list[structlog.typing.Processor]:
    if style == "json":
        return [structlog.processors.format_exc_info, structlog.processors.EventRenamer("message"), structlog.processors.JSONRenderer()]
    from pipeline_project.cli import console

    return [structlog.dev.ConsoleRenderer(colors=console.err.is_terminal and not console.err.no_color)]


def bind(**known: str | None) -> None:
    """Add what is known (pool, cycle) to every line from here on."""
    structlog.contextvars.bind_contextvars(**{name: value for name, value in known.items() if value is not None})


def unbind() -> None:
    structlog.contextvars.clear_contextvars()
