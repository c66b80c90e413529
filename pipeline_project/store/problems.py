"""Problem directories: a packing problem as three Parquet files, without a database."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline_project.core.changes import positions
from pipeline_project.core.errors import Refused, UsageError
from pipeline_project.core.packing import Int32, Int64, PackingProblem

BATCH: Final = 1 << 14  # rows: what a core can keep at hand


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemFiles:
    """A problem, and how its candidates are called outside.

    problem      candidates in ascending order of their ids
    candidates   int64[n]  the id of each
    resources    int64[m]  the id of each that somebody demands, ascending
    priority     int64[n]  class of each, 0 first; None = the file has none
    further      int64[n] each: weight_2, weight_3, ..., that decide among equals
    """

    problem: PackingProblem
    candidates: Int64
    resources: Int64
    priority: Int64 | None
    further: tuple[Int64, ...]


def read_problem(directory: Path) -> ProblemFiles:
    """Read candidates.parquet (candidate, weight), demands.parquet (candidate, resource, quantity), resources.parquet (resource, capacity).

    Resources that resources.parquet does not name have capacity 1; the file itself may be missing. candidates.parquet may also have
    priority, and weight_2, weight_3, ... without gaps: levels of the objective, see `solvers.levels`. Raises UsageError for files and
    columns that are not there, Refused for values that make no problem.
    """
    if not directory.is_dir():
        raise UsageError(f"{directory}: expected a problem directory with candidates.parquet and demands.parquet, found none")
    # Arrow's own pools keep what they have freed, and new memory has to be cleared by the kernel: that takes longer than reading.
    pa.set_memory_pool(pa.system_memory_pool())
    names = "candidate", "weight", *_levels_in(directory / "candidates.parquet")
    with ThreadPoolExecutor(1) as other_core:
        demands = other_core.submit(_columns, directory / "demands.parquet", "candidate", "resource", "quantity")
        ids, *columns = _columns(directory / "candidates.parquet", *names)
        known, capacities = np.zeros(0, np.int64), np.zeros(0, np.int64)
        if (directory / "resources.parquet").exists():
            known, capacities = _columns(directory / "resources.parquet", "resource", "capacity")
        owner, wanted, quantities = demands.result()
    for name, column in zip(names[1:], columns, strict=True):
        _refuse_below(0, column, ids, f"candidates.parquet: {name} of candidate")
    _refuse_below(1, quantities, owner, "demands.parquet: quantity of candidate")
    _refuse_below(0, capacities, known, "resources.parquet: capacity of resource")
    ids, *columns = _by_id(ids, *columns, where="candidates.parquet: candidate")
    known, capacities = _by_id(known, capacities, where="resources.parquet: resource")
    with ThreadPoolExecutor(1) as other_core:
        numbered = other_core.submit(_numbered, wanted)
        candidate, found = positions(ids, owner)
        mentioned, resource = numbered.result()
    del demands, wanted  # new memory costs more than all that is done here: what is no longer needed is to be used again
    at, is_known = positions(known, mentioned)
    free = capacities[at] if is_known.all() else np.where(is_known, np.append(capacities, 1)[at], 1)
    if not found.all():
        stranger = int(owner[np.argmin(found)])
        raise Refused(
            f"demands.parquet: expected candidates of candidates.parquet, found {stranger} ({int((~found).sum())} such rows in all)"
        )
    named = dict(zip(names[1:], columns, strict=True))
    problem = PackingProblem.from_triples(named.pop("weight"), candidate, resource, quantities, free)
    priority = named.pop("priority", None)
    return ProblemFiles(problem=problem, candidates=ids, resources=mentioned, priority=priority, further=tuple(named.values()))


def _levels_in(path: Path) -> list[str]:
    """Those of the columns priority, weight_2, weight_3, ... that the file has, in this order."""
    present = _opened(path).schema_arrow.names if path.is_file() else []
    weights = [name for name in present if re.fullmatch(r"weight_?[0-9]+", name)]
    expected = [f"weight_{i}" for i in range(2, 2 + len(weights))]
    if sorted(weights) != sorted(expected):
        raise UsageError(f"{path}: expected further weights as {', '.join(expected)}, without gaps, found {', '.join(weights)}")
    return [name for name in ("priority",) if name in present] + expected


def _columns(path: Path, *names: str) -> list[Int64]:
    """The columns as int64; anything that is not a whole number in every row is refused."""
    if not path.is_file():
        raise UsageError(f"{path}: expected a Parquet file with columns {', '.join(names)}, found no such file")
    file = _opened(path)
    present = file.schema_arrow.names
    if missing := [name for name in names if name not in present]:
        raise UsageError(
            f"{path}: expected columns {', '.join(names)}, found {', '.join(present) or 'none'}; missing: {', '.join(missing)}"
        )
    if doubled := [name for name in names if present.count(name) > 1]:
        raise UsageError(f"{path}: expected each column once, found {', '.join(doubled)} more than once")
    with _readable(path):
        plain = _int64_columns(file, names)
        return plain or [_whole_numbers(file.read(columns=[name])[name], f"{path.name}: {name}") for name in names]


def _int64_columns(file: pq.ParquetFile, names: Sequence[str]) -> list[Int64] | None:
    """The columns, read in batches, so that hardly more memory is touched than they need; None where not all is int64."""
    if any(file.schema_arrow.field(name).type != pa.int64() for name in names):
        return None
    columns, at = [np.empty(file.metadata.num_rows, np.int64) for _ in names], 0
    for batch in file.iter_batches(BATCH, columns=list(names)):
        for name, column in zip(names, columns, strict=True):
            if batch[name].null_count:
                return None
            column[at : at + len(batch)] = np.from_dlpack(batch[name])
        at += len(batch)
    return columns


def _opened(path: Path) -> pq.ParquetFile:
    with _readable(path):
        return pq.ParquetFile(path)  # `read_table` would import pandas too


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as failure:  # a page that is not what it says is an OSError
        raise UsageError(f"{path}: expected a Parquet file, found one that cannot be read: {failure}") from failure


def _whole_numbers(column: pa.ChunkedArray, where: str) -> Int64:
    if column.null_count:
        row = pc.index(column.is_null(), True).as_py()
        raise Refused(f"{where}, row {row + 1}: expected an int64, found nothing ({column.null_count} such rows in all)")
    if not pa.types.is_integer(column.type):
        sample = f", for example {column[0].as_py()!r}" if len(column) else ""
        raise Refused(f"{where}: expected a column of type int64, found {column.type}{sample}; store whole points and units")
    try:
        whole = column.cast(pa.int64())
    except pa.ArrowInvalid as failure:
        raise Refused(f"{where}: expected numbers within int64, found {column.type}: {failure}") from failure
    # `to_numpy` would import pandas, which takes longer than most problems.
    return np.asarray(np.from_dlpack(whole.combine_chunks()), np.int64)


def _refuse_below(least: int, values: Int64, owner: Int64, where: str) -> None:
    if len(values) and values.min() < least:
        bad = values < least
        at = int(np.argmax(bad))
        raise Refused(f"{where} {owner[at]}, row {at + 1}: expected >= {least}, found {values[at]} ({int(bad.sum())} such rows in all)")


def _by_id(ids: Int64, *columns: Int64, where: str) -> list[Int64]:
    """Ids, ascending, and the columns in their order."""
    if (ids[1:] <= ids[:-1]).any():
        order = np.argsort(ids, kind="stable")
        ids, columns = ids[order], tuple(column[order] for column in columns)
        repeated = np.flatnonzero(ids[1:] == ids[:-1])
        if len(repeated):
            raise Refused(f"{where}: expected each once, found {ids[repeated[0]]} twice ({len(repeated)} such in all)")
    return [ids, *columns]


def _numbered(ids: Int64) -> tuple[Int64, Int64 | Int32]:
    """The distinct ids, ascending, and the position of each among them.

    Ids are mostly small numbers with few gaps: a table of flags is then far faster than sorting.
    """
    least, span = (int(ids.min()), int(ids.max()) - int(ids.min()) + 1) if len(ids) else (0, 0)
    if span > 4 * len(ids) + 1024:
        distinct, position = np.unique(ids, return_inverse=True)
        return distinct, position.astype(np.int64)
    present = np.zeros(span, np.bool_)
    offset = ids - least if least else ids
    present[offset] = True
    number = np.cumsum(present, dtype=np.int32)
    number -= 1
    distinct = np.flatnonzero(present)
    distinct += least
    return distinct, number[offset]
