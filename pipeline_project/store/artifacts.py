"""What a cycle leaves in files: snapshot, graph and selection with its losers, as Parquet and JSON. No payloads, no pickle."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from datetime import date
from typing import Any, Final

import fsspec
import numpy as np
import pyarrow as pa
from pyarrow import parquet

from pipeline_project.core.candidates import Candidates
from pipeline_project.core.conflict_graph import ConflictGraph
from pipeline_project.core.decisions import Proposal
from pipeline_project.core.errors import CheckFailed, Unknown
from pipeline_project.core.packing import Int64, PackingProblem, starts_of
from pipeline_project.core.policy import Policy
from pipeline_project.core.rollbacks import Fates
from pipeline_project.core.selection import NO_CUTS, Certificate, Claim, Cuts, Selection
from pipeline_project.core.snapshot import Mode, Snapshot
from pipeline_project.store.columns import integers, strings

PENDING_ITEMS: Final = "pending_items"
CONFLICT_GRAPH: Final = "conflict_graph"
PROPOSED_SELECTIONS: Final = "proposed_selections"
ROLLBACK_PREVIEWS: Final = "rollback_previews"

_CLAIMS = pa.schema([("solver", pa.string()), ("bound", pa.int64()), ("candidates", pa.list_(pa.int64()))])


class Artifacts:
    """`<root>/<pool>/<cycle_key>/<asset>/`; a folder counts once its manifest is there: written last, it holds each file's hash.

    What loads raises Unknown where there is no such folder, CheckFailed where a file is not as it was written.
    """

    def __init__(self, root: str) -> None:
        self.fs, self.root = fsspec.core.url_to_fs(root)

    def where(self, pool: str, cycle_key: str, asset: str = "") -> str:
        return "/".join(part for part in (self.root, pool, cycle_key, asset) if part)

    def exists(self, pool: str, cycle_key: str, asset: str) -> bool:
        return bool(self.fs.exists(f"{self.where(pool, cycle_key, asset)}/manifest.json"))

    def forget(self, pool: str, cycle_key: str) -> bool:
        """Remove a cycle's files, if they are there; its decisions and its audit trail stay in the database."""
        there = bool(self.fs.exists(self.where(pool, cycle_key)))
        if there:
            self.fs.rm(self.where(pool, cycle_key), recursive=True)
        return there

    # -- pending_items

    def save_snapshot(self, snapshot: Snapshot) -> None:
        s = snapshot
        tables = {
            "items": _table(item_id=s.item_ids, key=s.keys, version=s.versions, weight=s.weights, bundle_id=s.bundles, held=s.held),
            "demands": _table(item=_owners(s.indptr), resource=s.resources, quantity=s.quantities),
            "resources": _table(resource_id=s.resource_ids, key=s.resource_keys, free=s.free, capacity=s.capacities),
        }
        about = {
            "pool": s.pool,
            "day": s.day.isoformat(),
            "mode": s.mode,
            "policy": s.policy.model_dump(mode="json"),
            "engine_version": s.engine_version,
        }
        self._save(s.pool, s.cycle_key(), PENDING_ITEMS, tables, about)

    def load_snapshot(self, pool: str, cycle_key: str) -> Snapshot:
        tables, about = self._load(pool, cycle_key, PENDING_ITEMS)
        items, demands, resources = tables["items"], tables["demands"], tables["resources"]
        return Snapshot(
            pool=about["pool"],
            day=date.fromisoformat(about["day"]),
            mode=Mode(about["mode"]),
            policy=Policy.model_validate(about["policy"]),
            engine_version=about["engine_version"],
            item_ids=integers(items, "item_id"),
            keys=strings(items, "key"),
            versions=integers(items, "version"),
            weights=integers(items, "weight"),
            bundles=integers(items, "bundle_id"),
            held=np.asarray(items.column("held").combine_chunks().to_numpy(zero_copy_only=False), np.bool_),
            indptr=starts_of(np.bincount(integers(demands, "item"), minlength=len(items))),
            resources=integers(demands, "resource").astype(np.int32),
            quantities=integers(demands, "quantity"),
            resource_ids=integers(resources, "resource_id"),
            resource_keys=strings(resources, "key"),
            free=integers(resources, "free"),
            capacities=integers(resources, "capacity"),
        )

    # -- conflict_graph: a problem directory, as `pipeline solve` reads it, and which items make up each candidate

    def save_graph(self, graph: ConflictGraph) -> None:
        p = graph.problem
        tables = {
            "candidates": _table(candidate=np.arange(p.n), weight=p.weights),
            "demands": _table(candidate=p.candidates(), resource=p.resources.astype(np.int64), quantity=p.quantities),
            "resources": _table(resource=np.arange(p.m), capacity=p.capacities),
            "members": _table(item=np.arange(graph.snapshot.n), candidate=graph.candidates.of_item),
        }
        self._save(graph.snapshot.pool, graph.snapshot.cycle_key(), CONFLICT_GRAPH, tables, {})

    def load_graph(self, pool: str, cycle_key: str) -> ConflictGraph:
        tables, _ = self._load(pool, cycle_key, CONFLICT_GRAPH)
        weights, demands = integers(tables["candidates"], "weight"), tables["demands"]
        problem = PackingProblem(
            weights=weights,
            indptr=starts_of(np.bincount(integers(demands, "candidate"), minlength=len(weights))),
            resources=integers(demands, "resource").astype(np.int32),
            quantities=integers(demands, "quantity"),
            capacities=integers(tables["resources"], "capacity"),
        )
        of_item = integers(tables["members"], "candidate")
        members = np.argsort(of_item, kind="stable").astype(np.int64)
        candidates = Candidates(of_item=of_item, indptr=starts_of(np.bincount(np.sort(of_item), minlength=len(weights))), members=members)
        return ConflictGraph(snapshot=self.load_snapshot(pool, cycle_key), candidates=candidates, problem=problem)

    # -- proposed_selections: the verdict on every item, losers included, sorted by item

    def save_proposal(self, proposal: Proposal) -> None:
        snapshot, selection = proposal.graph.snapshot, proposal.selection
        certificate = selection.certificate
        blockers = pa.ListArray.from_arrays(pa.array(proposal.indptr, pa.int32()), pa.array(proposal.blockers, pa.int32()))
        tables = {
            "decisions": _table(item_id=snapshot.item_ids, key=snapshot.keys, rank=proposal.ranks, blockers=blockers),
            "selection": _table(candidate=selection.chosen),
            "prices": _table(price=certificate.prices),
            "claims": pa.Table.from_pylist(
                [{"solver": c.solver, "bound": c.bound, "candidates": c.candidates.tolist()} for c in certificate.claims], _CLAIMS
            ),
            **_cut_tables(certificate.cuts),
        }
        about = {name: getattr(certificate, name) for name in certificate.__slots__ if name not in ("prices", "claims", "cuts")}
        self._save(snapshot.pool, proposal.cycle_key, PROPOSED_SELECTIONS, tables, about)

    def load_proposal(self, pool: str, cycle_key: str) -> Proposal:
        graph = self.load_graph(pool, cycle_key)
        tables, about = self._load(pool, cycle_key, PROPOSED_SELECTIONS)
        claims = tuple(
            Claim(solver=row["solver"], bound=row["bound"], candidates=np.array(row["candidates"], np.int64))
            for row in tables["claims"].to_pylist()
        )
        certificate = Certificate(prices=integers(tables["prices"], "price"), claims=claims, cuts=_cuts(tables), **about)
        selection = Selection(chosen=integers(tables["selection"], "candidate"), certificate=certificate)
        return Proposal.of(graph, selection)

    def verdict(self, pool: str, cycle_key: str, item_id: int) -> dict[str, Any] | None:
        """One item's row of the stored verdicts, found by row-group statistics; None when the cycle did not see it."""
        path = f"{self.where(pool, cycle_key, PROPOSED_SELECTIONS)}/decisions.parquet"
        if not self.fs.exists(path):
            return None
        rows = parquet.read_table(path, filesystem=self.fs, filters=[("item_id", "=", item_id)]).to_pylist()
        return rows[0] if rows else None

    # -- rollback_previews: one a hash, so that whoever is refused is told what differs

    def save_fates(self, pool: str, cycle_key: str, name: str, fates: Fates) -> None:
        table = _table(item_id=fates.item_ids, version=fates.versions, fate=fates.fates)
        self._save(pool, cycle_key, f"{ROLLBACK_PREVIEWS}/{name}", {"fates": table}, {})

    def load_fates(self, pool: str, cycle_key: str, name: str) -> Fates:
        tables, _ = self._load(pool, cycle_key, f"{ROLLBACK_PREVIEWS}/{name}")
        item_ids, versions, fates = (integers(tables["fates"], column) for column in ("item_id", "version", "fate"))
        return Fates(item_ids=item_ids, versions=versions, fates=fates)

    # -- files

    def _save(self, pool: str, cycle_key: str, asset: str, tables: Mapping[str, pa.Table], about: Mapping[str, Any]) -> None:
        folder = self.where(pool, cycle_key, asset)
        self.fs.makedirs(folder, exist_ok=True)
        files = {f"{name}.parquet": _parquet(table) for name, table in tables.items()}
        files["about.json"] = json.dumps(about, sort_keys=True, default=_plain).encode()
        manifest = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        for name, content in {**files, "manifest.json": json.dumps(manifest, sort_keys=True).encode()}.items():
            # Renamed into place: a reader, or a second writer of the same cycle, never meets half a file.
            scratch = f"{folder}/.{name}.{uuid.uuid4().hex}"
            self.fs.pipe_file(scratch, content)
            self.fs.mv(scratch, f"{folder}/{name}")

    def _load(self, pool: str, cycle_key: str, asset: str) -> tuple[dict[str, pa.Table], dict[str, Any]]:
        folder = self.where(pool, cycle_key, asset)
        if not self.exists(pool, cycle_key, asset):
            raise Unknown(f"artifact {folder}: not there; it was never written, or retention removed it")
        files: dict[str, bytes] = {}
        for name, expected in json.loads(self.fs.cat_file(f"{folder}/manifest.json")).items():
            files[name] = self.fs.cat_file(f"{folder}/{name}")
            found = hashlib.sha256(files[name]).hexdigest()
            if found != expected:
                raise CheckFailed(
                    f"artifact {folder}/{name}: expected SHA-256 {expected}, found {found}; the file was changed after the cycle"
                )
        about = json.loads(files.pop("about.json"))
        return {name.removesuffix(".parquet"): parquet.read_table(pa.BufferReader(content)) for name, content in files.items()}, about


def _cut_tables(cuts: Cuts) -> dict[str, pa.Table]:
    about = {"resource": cuts.resource, "numerator": cuts.numerator, "denominator": cuts.denominator, "price": cuts.price}
    return {
        "rounded_rows": _table(**about, complemented=_lists(cuts.complemented_starts, cuts.complemented)),
        "cliques": _table(price=cuts.clique_price, members=_lists(cuts.clique_starts, cuts.members)),
    }


def _cuts(tables: Mapping[str, pa.Table]) -> Cuts:
    if "rounded_rows" not in tables:  # written before certificates had cuts
        return NO_CUTS
    rounded, cliques = tables["rounded_rows"], tables["cliques"]
    complemented_starts, complemented = _columns_of(rounded, "complemented")
    clique_starts, members = _columns_of(cliques, "members")
    return Cuts(
        resource=integers(rounded, "resource"),
        numerator=integers(rounded, "numerator"),
        denominator=integers(rounded, "denominator"),
        price=integers(rounded, "price"),
        complemented_starts=complemented_starts,
        complemented=complemented,
        clique_starts=clique_starts,
        members=members,
        clique_price=integers(cliques, "price"),
    )


def _lists(starts: Int64, values: Int64) -> pa.Array:
    return pa.LargeListArray.from_arrays(pa.array(starts, pa.int64()), pa.array(values, pa.int64()))


def _columns_of(table: pa.Table, name: str) -> tuple[Int64, Int64]:
    lists = table.column(name).combine_chunks()
    return starts_of(np.asarray(lists.value_lengths())), np.asarray(lists.flatten(), np.int64)


def _table(**columns: Any) -> pa.Table:
    return pa.table({name: column if isinstance(column, pa.Array) else pa.array(column) for name, column in columns.items()})


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink, row_group_size=64_000, compression="zstd")
    return bytes(sink.getvalue())


def _owners(indptr: Int64) -> Int64:
    return np.repeat(np.arange(len(indptr) - 1, dtype=np.int64), np.diff(indptr))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)
