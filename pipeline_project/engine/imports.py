"""Files that strangers send: CSV, JSON lines and Parquet, read in batches of checked columns and refusals."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator, Mapping
from io import BufferedIOBase
from pathlib import Path
from typing import Final, TypeVar

from pipeline_project.core import items, resources
from pipeline_project.core.columns import Field, Table
from pipeline_project.core.errors import Refusal, UsageError
from pipeline_project.core.items import ItemBatch
from pipeline_project.core.resources import ResourceBatch
from pipeline_project.engine import parquet_files, text_files

Batch = TypeVar("Batch")
Chunk = tuple[Table, list[Refusal]]
"""Some rows as columns, and the rows before or between them that could not even be read."""
Reader = Callable[[BufferedIOBase, Mapping[str, Field], str], Iterator[Chunk]]

READERS: Final[dict[str, Reader]] = {
    ".csv": text_files.csv_chunks,
    ".jsonl": text_files.json_chunks,
    ".ndjson": text_files.json_chunks,
    ".parquet": parquet_files.chunks,
}


def read_items(path: Path) -> Iterator[tuple[ItemBatch, list[Refusal]]]:
    """The items of a file, batch by batch; each row is either in a batch or refused.

    Memory holds one batch (at most 20,000 rows and some 32 MiB of text) and, to find repeated ones, all keys read so far.
    Raises UsageError when the file as a whole cannot be read: its suffix, its columns, its compression.
    """
    return _read(path, items.FIELDS, items.check_items)


def read_resources(path: Path) -> Iterator[tuple[ResourceBatch, list[Refusal]]]:
    """The resources of a file, likewise."""
    return _read(path, resources.FIELDS, resources.check_resources)


def _read(
    path: Path, fields: Mapping[str, Field], check: Callable[[Table, dict[str, int]], tuple[Batch, list[Refusal]]]
) -> Iterator[tuple[Batch, list[Refusal]]]:
    seen: dict[str, int] = {}
    reader, is_compressed = _reader(path)
    try:
        if path.stat().st_size == 0:
            raise UsageError(f"{path}: expected rows, found an empty file")
        with gzip.open(path) if is_compressed else path.open("rb") as stream:
            for table, unreadable in reader(stream, fields, str(path)):
                batch, refused = check(table, seen)
                yield batch, sorted(unreadable + refused, key=lambda refusal: refusal.line)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UsageError(f"{path}: expected gzip data, found {error}") from None
    except OSError as error:
        raise UsageError(f"{path}: expected a readable file, found {error.strerror or error}") from None


def _reader(path: Path) -> tuple[Reader, bool]:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    is_compressed = suffixes[-1:] == [".gz"]
    reader = READERS.get((suffixes[:-1] if is_compressed else suffixes)[-1] if suffixes else "")
    if reader is None or (is_compressed and reader is parquet_files.chunks):
        raise UsageError(f"{path}: expected a file ending in {', '.join(READERS)}, or .gz after a text format")
    return reader, is_compressed
