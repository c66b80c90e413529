"""What is saved with a proposal is there when it is read again: its cuts too, or its bound could not be checked any more."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline_project.core.conflict_graph import ConflictGraph
from pipeline_project.core.decisions import Proposal
from pipeline_project.core.selection import NO_CUTS, Certificate, Claim, Cuts, Selection
from pipeline_project.core.verification import dual_bound, verify
from pipeline_project.store.artifacts import PROPOSED_SELECTIONS, Artifacts
from tests.core.snapshots import snapshot_of


def column(*values: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(values, np.int64)


CUTS = Cuts(
    resource=column(0, 0),
    numerator=column(2, 1),
    denominator=column(3, 4),
    price=column(1, 0),
    complemented_starts=column(0, 0, 2),
    complemented=column(0, 1),
    clique_starts=column(0, 2, 5),
    members=column(0, 2, 0, 1, 2),
    clique_price=column(0, 10),
)


def proposed(cuts: Cuts) -> Proposal:
    """Three items, any two of which are too many for r0."""
    graph = ConflictGraph.of(snapshot_of([(10, {0: 3}, -1), (10, {0: 3}, -1), (14, {0: 3, 1: 1}, -1)], [5, 1]))
    assert graph.problem.m == 2
    bound = dual_bound(graph.problem, column(0, 0), 1, cuts=cuts)
    certificate = Certificate(
        value=14,
        upper_bound=bound,
        prices=column(0, 0),
        price_scale=1,
        seed=0,
        steps=1,
        reproducible=True,
        solvers={"greedy": 3},
        price_bound=bound,
        claims=(Claim(solver="oracle", candidates=column(1), bound=10),),
        cuts=cuts,
    )
    heaviest = column(int(np.argmax(graph.problem.weights)))
    return Proposal.of(graph, Selection(chosen=heaviest, certificate=certificate))


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(str(tmp_path))


@pytest.mark.parametrize("cuts", [NO_CUTS, CUTS], ids=["without cuts", "with cuts"])
def test_a_certificate_is_read_as_it_was_saved(artifacts: Artifacts, cuts: Cuts) -> None:
    proposal = proposed(cuts)
    _save(artifacts, proposal)
    read = artifacts.load_proposal("p", proposal.cycle_key)
    expected, found = proposal.selection.certificate, read.selection.certificate
    for name in Cuts.__slots__:
        assert getattr(found.cuts, name).dtype == np.int64
        assert getattr(found.cuts, name).tolist() == getattr(expected.cuts, name).tolist(), name
    about = [name for name in Certificate.__slots__ if name not in ("prices", "claims", "cuts")]
    assert [getattr(found, name) for name in about] == [getattr(expected, name) for name in about]
    assert verify(read.graph.problem, read.selection) == []


def test_the_bound_that_was_read_hangs_on_the_cuts(artifacts: Artifacts) -> None:
    proposal = proposed(CUTS)
    _save(artifacts, proposal)
    read = artifacts.load_proposal("p", proposal.cycle_key)
    without = replace(read.selection, certificate=replace(read.selection.certificate, cuts=NO_CUTS))
    assert [violation.rule for violation in verify(read.graph.problem, without)] == ["price_bound", "upper_bound"]


def test_an_artifact_from_before_there_were_cuts_is_read(artifacts: Artifacts) -> None:
    proposal = proposed(NO_CUTS)
    _save(artifacts, proposal)
    path = f"{artifacts.where('p', proposal.cycle_key, PROPOSED_SELECTIONS)}/manifest.json"
    manifest = json.loads(artifacts.fs.cat_file(path))
    for name in ("rounded_rows.parquet", "cliques.parquet"):
        del manifest[name]
    artifacts.fs.pipe_file(path, json.dumps(manifest).encode())
    read = artifacts.load_proposal("p", proposal.cycle_key)
    assert len(read.selection.certificate.cuts) == 0
    assert verify(read.graph.problem, read.selection) == []


def _save(artifacts: Artifacts, proposal: Proposal) -> None:
    artifacts.save_snapshot(proposal.graph.snapshot)
    artifacts.save_graph(proposal.graph)
    artifacts.save_proposal(proposal)
