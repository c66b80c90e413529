"""Who acts, as the audit trail names it: a process, or a run of the control room that can be looked up there."""

from __future__ import annotations

import os
import re
import socket
import uuid


def process() -> str:
    """A name that no other process has, and no other engine of this one."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


def run(run_id: str) -> str:
    """The same for every process of the run: what one of them left half done, the next goes on with at once, behind a new fence."""
    return f"dagster run {run_id}"


def run_of(actor: str | None) -> str | None:
    """The run's id, where a run acted."""
    found = re.fullmatch(r"dagster run (\S+)", actor or "")
    return found[1] if found else None
