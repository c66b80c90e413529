"""One candidate per lone item or whole bundle, and every item in exactly one."""

from __future__ import annotations

from hypothesis import given

from pipeline_project.core.candidates import Candidates
from pipeline_project.core.snapshot import Snapshot
from tests.core.snapshots import snapshot_of, snapshots


def test_a_bundle_is_one_candidate_where_its_first_member_stands() -> None:
    candidates = Candidates.of(snapshot_of([(1, {}, 9), (1, {}, -1), (1, {}, 3), (1, {}, 9)], []))
    assert candidates.of_item.tolist() == [0, 1, 2, 0]
    assert candidates.members.tolist() == [0, 3, 1, 2]
    assert candidates.sizes().tolist() == [2, 1, 1]


@given(snapshots())
def test_items_share_a_candidate_exactly_when_they_share_a_bundle(snapshot: Snapshot) -> None:
    candidates = Candidates.of(snapshot)
    assert sorted(candidates.members.tolist()) == list(range(snapshot.n))
    for i in range(snapshot.n):
        for j in range(i):
            together = snapshot.bundles[i] >= 0 and snapshot.bundles[i] == snapshot.bundles[j]
            assert (candidates.of_item[i] == candidates.of_item[j]) == together


@given(snapshots())
def test_the_two_directions_agree(snapshot: Snapshot) -> None:
    candidates = Candidates.of(snapshot)
    for c in range(candidates.count):
        members = candidates.members[candidates.indptr[c] : candidates.indptr[c + 1]].tolist()
        assert members == sorted(members)
        assert all(candidates.of_item[member] == c for member in members)
