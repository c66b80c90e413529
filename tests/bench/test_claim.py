"""`pipeline bench claim` on a few items: every peer of ours does its whole share, and what is wrong is said."""

from __future__ import annotations

import pytest

from pipeline_project.bench import claim
from pipeline_project.cli.bench import refuse_missing, some_of
from pipeline_project.core.errors import UsageError
from pipeline_project.settings import Settings
from pipeline_project.store.embedded import EmbeddedPostgres


def test_every_peer_does_its_share_and_leaves_a_sound_database(settings: Settings, server: EmbeddedPostgres) -> None:
    protocol = claim.Protocol(peers=["pipeline", "sql", "raw"], workers=[1], batches=[3], items=4, snapshot_s=0)
    told: list[str] = []
    report = claim.compare(protocol, settings, lambda row: told.append(row["peer"]))
    assert told == ["pipeline", "sql", "raw"]
    assert [(row["batch"], row["workers"], row["items"]) for row in report["results"]] == [(3, 1, 9)] * 3
    assert all(row["per_second"] > 0 and row["claim_p99_ms"] >= row["claim_p50_ms"] for row in report["results"])
    assert report["invariants_violated"] == 0
    assert {"fsync", "synchronous_commit"} <= report["server"].keys()


def test_a_larger_batch_has_more_items_and_every_worker_whole_batches() -> None:
    protocol = claim.Protocol(peers=["raw"], workers=[1, 4], batches=[1, 100], items=100, snapshot_s=0)
    assert [protocol.items_of(batch, workers) for batch in (1, 100) for workers in (1, 4)] == [100, 100, 1000, 1200]
    assert protocol.items_in_all() == 2400


def test_a_peer_that_is_not_there_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="expected some of pipeline, sql, raw"):
        some_of("--peers", "pipeline,rabbit", claim.PEERS)
    with pytest.raises(UsageError, match="found ','"):
        some_of("--peers", ",", claim.PEERS)
    with pytest.raises(UsageError, match="ghost is not installed"):
        refuse_missing(["raw", "ghost"], {"ghost": "no_such_module"})
