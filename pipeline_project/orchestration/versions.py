"""What makes two materializations the same: hashes of what they hold, and of the code that made them."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from functools import cache, singledispatch
from pathlib import Path
from typing import Final, TypeVar

import dagster as dg

import pipeline_project
from pipeline_project.core.conflict_graph import ConflictGraph
from pipeline_project.core.decisions import Proposal
from pipeline_project.core.snapshot import Snapshot

PACKAGE: Final = Path(pipeline_project.__file__).parent
DATA_VERSION: Final = "dagster/data_version"
CONTENT: Final = ("cycle", "attempt", "status", "items", "value", "selected", "stale", "nofit", "changed")
"""What of a report is content: not how long it took."""

Made = TypeVar("Made")


@cache
def code_version(*rooms: str) -> str:
    """The program's version, and a hash of the sources of the rooms that make an asset; the solver's and the policy's among them.

    Which policy a cycle was decided by is data: its hash is part of the cycle key, and so of every version downstream.
    """
    content = hashlib.sha256()
    for room in rooms:
        for path in sorted(path for path in (PACKAGE / room).rglob("*") if path.suffix in (".py", ".sql")):
            content.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{pipeline_project.__version__}+{content.hexdigest()[:12]}"


def versioned(made: Made) -> dg.Output[Made]:
    """What an asset made, with the hash of its content as its version: equal content is equal, whoever made it and when."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # there is no other way to say it, and the version of Dagster is pinned
        return dg.Output(made, data_version=dg.DataVersion(data_version(made)))


@singledispatch
def data_version(made: object) -> str:
    raise TypeError(f"no asset makes a {type(made).__name__}")


@data_version.register
def _(made: Snapshot) -> str:
    return made.cycle_key()


@data_version.register
def _(made: ConflictGraph) -> str:
    problem = made.problem
    content = hashlib.sha256(made.snapshot.cycle_key().encode())
    for column in (problem.weights, problem.indptr, problem.resources, problem.quantities, problem.capacities, made.candidates.of_item):
        content.update(column.tobytes())
    return content.hexdigest()


@data_version.register
def _(made: Proposal) -> str:
    return f"{made.cycle_key}.{made.selection.digest()}"


@data_version.register
def _(made: Mapping) -> str:  # type: ignore[type-arg]  # singledispatch takes a class, not an alias
    return hashlib.sha256(json.dumps([str(made[name]) for name in CONTENT]).encode()).hexdigest()


def observed(position: str) -> dg.AssetObservation:
    """How far the feed had come: the version of `work_items`, which stands still while nothing happens."""
    return dg.AssetObservation("work_items", metadata={"feed_position": position}, tags={DATA_VERSION: position})
