"""How much memory a process takes, as Linux says it."""

from __future__ import annotations

from pathlib import Path


def resident_mb(pid: int) -> float:
    """Resident memory of a process and its children; 0 when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        children = " ".join(tasks.read_text() for tasks in Path(f"/proc/{pid}/task").glob("*/children")).split()
    except OSError:
        return 0.0
    return status_mb(status, "VmRSS") + sum(resident_mb(int(child)) for child in children)


def status_mb(status: str, name: str) -> float:
    """A line of /proc/PID/status. Its VmHWM is the peak of this program alone; ru_maxrss would count the parent that it was forked from."""
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(name + ":")), 0.0)
