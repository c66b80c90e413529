"""A real daemon, a real Redis and two real workers: one is killed with the run it is in, and nothing is lost."""

from __future__ import annotations

import shutil

import pytest

from tests.cli.conftest import CommandLine


@pytest.mark.skipif(not shutil.which("redis-server"), reason="redis-server is not installed: it is a package of Debian's")
def test_a_killed_worker_loses_no_cycle_and_breaks_no_promise(anywhere: CommandLine) -> None:
    for _ in range(3):
        [row] = anywhere("bench", "workers", "--workers", "2", "--pools", "4", "--items", "20", "--kill")["results"]
        assert row["killed"] == 1
        assert row["cycles"] == 4, "and begun anew, unless its cycle was published before the kill"
        assert row["invariants_violated"] == 0
        if row["failed"]:
            return
    raise AssertionError("three times the killed worker had ended its run a moment before: expected that run to be found and given up")


def test_a_kill_needs_one_who_is_left(anywhere: CommandLine) -> None:
    assert "2 workers or more" in anywhere("bench", "workers", "--workers", "1", "--kill", exits=2)["error"]["message"]
