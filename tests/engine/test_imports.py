"""Files as strangers send them: each row ends up in a batch or in a refusal that names its line."""

from __future__ import annotations

import csv
import gzip
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline_project.core.errors import Refusal, UsageError
from pipeline_project.core.items import ItemBatch
from pipeline_project.engine import parquet_files, text_files
from pipeline_project.engine.imports import read_items, read_resources
from pipeline_project.engine.text_files import LINE_BYTES_LIMIT

HEADER = "key,weight,demands\n"


def read(path: Path, content: bytes | str) -> tuple[list[ItemBatch], list[Refusal]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    parts = list(read_items(path))
    return [batch for batch, _ in parts], [refusal for _, refusals in parts for refusal in refusals]


def keys(batches: list[ItemBatch]) -> list[tuple[int, str]]:
    return [pair for batch in batches for pair in zip(batch.lines.tolist(), batch.keys, strict=True)]


def places(refusals: list[Refusal]) -> list[tuple[int, str]]:
    return [(refusal.line, refusal.field) for refusal in refusals]


def test_csv_becomes_items(tmp_path: Path) -> None:
    content = '\ufeffkey, weight,demands,payload,expires_at\r\na,5,"{""gpu"": 2}",,2026-01-01T00:00:00Z\r\n\r\nb,007,{},"{""x"":1}",\r\n'
    (batch,), refusals = read(tmp_path / "i.csv", content)
    assert refusals == []
    assert keys([batch]) == [(2, "a"), (4, "b")]
    assert batch.weights.tolist() == [5, 7]
    assert batch.payloads == [None, '{"x":1}']
    assert batch.expires_at == [datetime(2026, 1, 1, tzinfo=UTC), None]
    assert batch.demand_keys == ["gpu"]


@pytest.mark.parametrize(
    "weight", ["-1", "1.0", "1e3", "nan", "inf", " 1", "+1", "٣", "1_000", "0x1", "", "9223372036854775808", "9" * 5000]
)
def test_csv_numbers_are_digits(tmp_path: Path, weight: str) -> None:
    batches, refusals = read(tmp_path / "i.csv", f"{HEADER}a,{weight},{{}}\nb,1,{{}}\n")
    assert keys(batches) == [(3, "b")]
    assert places(refusals) == [(2, "weight")]


def test_csv_lines_are_physical_lines_also_after_quoted_line_breaks(tmp_path: Path) -> None:
    content = HEADER + 'a,1,"{\n}"\nb,x,{}\n"c\nd",1,{}\ne,1,{}\n'
    batches, refusals = read(tmp_path / "i.csv", content)
    assert keys(batches) == [(2, "a"), (7, "e")]
    assert places(refusals) == [(4, "weight"), (5, "key")]


def test_csv_rows_of_another_width_and_broken_quotes_are_refused(tmp_path: Path) -> None:
    content = HEADER + 'a,1\nb,1,{},\nc,1,"{}"x\nd,1,{}\ne,1,"{}\nf,1,{}\n'
    batches, refusals = read(tmp_path / "i.csv", content)
    assert keys(batches) == [(5, "d")]
    assert places(refusals) == [(2, "record"), (3, "record"), (4, "record"), (6, "record")]
    assert "lines 6 to 7 are this record" in refusals[-1].found


@pytest.mark.parametrize(
    ("suffix", "good", "bad"), [("csv", "b,1,{}", "a\\xff,1,{}"), ("jsonl", '{"key":"b","weight":1,"demands":{}}', '{"\\xff":1}')]
)
def test_broken_utf8_refuses_its_line_only(tmp_path: Path, suffix: str, good: str, bad: str) -> None:
    header = HEADER if suffix == "csv" else "\n"
    content = (header + bad + "\n" + good + "\n").encode().replace(b"\\xff", b"\xff")
    batches, refusals = read(tmp_path / f"i.{suffix}", content)
    assert keys(batches) == [(3, "b")]
    assert places(refusals) == [(2, "line")]
    assert "byte 0xff at byte" in refusals[0].found


@pytest.mark.parametrize(
    "long", ["x" * (LINE_BYTES_LIMIT + 1), '"' + "x" * 3 * LINE_BYTES_LIMIT, '"' + "x" * 3 * LINE_BYTES_LIMIT + '",1,{}']
)
def test_an_overlong_csv_line_is_refused_and_reading_goes_on(tmp_path: Path, long: str) -> None:
    is_open = long.count('"') == 1
    content = f"{HEADER}a,1,{{}}\n{long}\n" + ('still the same record"\n' if is_open else "") + "b,1,{}\n"
    batches, refusals = read(tmp_path / "i.csv", content)
    assert [key for _, key in keys(batches)] == ["a", "b"]
    assert places(refusals) == [(3, "line")]
    assert refusals[0].found == str(len(long) + 1)


def test_an_overlong_json_line_is_refused_and_reading_goes_on(tmp_path: Path) -> None:
    good = '{"key":"b","weight":1,"demands":{}}'
    batches, refusals = read(tmp_path / "i.jsonl", '{"key":"' + "x" * 2 * LINE_BYTES_LIMIT + '"}\n' + good)
    assert keys(batches) == [(2, "b")]
    assert places(refusals) == [(1, "line")]


def test_json_lines_become_items_and_a_broken_line_is_named(tmp_path: Path) -> None:
    lines = [
        '{"key": "a", "weight": 1, "demands": {"gpu": 1}, "payload": {"b": 1, "a": 2}, "not_before": null}',
        "",
        '{"key": "b", "weight": 1.0, "demands": {}}',
        '{"key": "c", "weight": 1, "demands": {}',
        '{"key": "d", "key": "e", "weight": 1, "demands": {}}',
        "[1]",
        '{"key": "f", "weight": 1}',
        '{"key": "g", "weight": 1, "demands": {}, "wieght": 2}',
        '{"key": "h", "weight": 1, "demands": {"gpu": 2}}',
    ]
    batches, refusals = read(tmp_path / "i.ndjson", "\r\n".join(lines))
    assert keys(batches) == [(1, "a"), (9, "h")]
    assert batches[0].payloads[0] == '{"a":2,"b":1}'
    assert places(refusals) == [(3, "weight"), (4, "line"), (5, "line"), (6, "row"), (7, "demands"), (8, "row")]


@pytest.mark.parametrize("inner", ["csv", "jsonl"])
def test_compressed_text_is_read_too(tmp_path: Path, inner: str) -> None:
    content = HEADER + "a,1,{}\n" if inner == "csv" else '{"key":"a","weight":1,"demands":{}}'
    batches, _ = read(tmp_path / f"i.{inner}.gz", gzip.compress(content.encode()))
    assert [key for _, key in keys(batches)] == ["a"]


def write_parquet(path: Path, columns: dict[str, Any]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_parquet_becomes_items(tmp_path: Path) -> None:
    demands = pa.array([[("gpu", 2), ("disk", 1)], None, [], [("gpu", 1), ("gpu", 2)], [("gpu", 0)]], pa.map_(pa.string(), pa.int32()))
    columns = {
        "key": pa.array(list("abcde")).dictionary_encode(),
        "weight": pa.array([1, 2, 3, 4, 2**64 - 1], pa.uint64()),
        "demands": demands,
        "expires_at": pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * 5, pa.timestamp("ns", "Europe/Berlin")),
        "payload": pa.nulls(5),
    }
    ((batch, refusals),) = read_items(write_parquet(tmp_path / "i.parquet", columns))
    assert keys([batch]) == [(1, "a"), (3, "c")]
    assert batch.demand_keys == ["gpu", "disk"]
    assert batch.demand_quantities.tolist() == [2, 1]
    assert batch.expires_at == [datetime(2026, 1, 1, tzinfo=UTC)] * 2
    assert places(refusals) == [(2, "demands"), (4, "demands"), (5, "weight")]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("weight", pa.array([1.0])),
        ("weight", pa.array(["1"])),
        ("weight", pa.nulls(1)),
        ("key", pa.array([1])),
        ("demands", pa.array([{"gpu": 1}])),
        ("demands", pa.array([[("gpu", 1.0)]], pa.map_(pa.string(), pa.float64()))),
        ("expires_at", pa.array([datetime(2026, 1, 1)])),  # noqa: DTZ001  # a naive time is the case
        ("payload", pa.array([b"{}"])),
    ],
)
def test_a_parquet_column_of_the_wrong_type_refuses_the_file(tmp_path: Path, column: str, values: pa.Array) -> None:
    columns = {"key": ["a"], "weight": [1], "demands": ["{}"]} | {column: values}
    with pytest.raises(UsageError, match=f"column '{column}': expected .*, found {str(values.type)[:9]}"):
        list(read_items(write_parquet(tmp_path / "i.parquet", columns)))


def test_parquet_text_that_is_not_utf8_refuses_its_row_only(tmp_path: Path) -> None:
    broken = pa.Array.from_buffers(pa.string(), 2, pa.array([b"a\xff", b"b"]).buffers())
    ((batch, refusals),) = read_items(write_parquet(tmp_path / "i.parquet", {"key": broken, "weight": [1, 1], "demands": ["{}", "{}"]}))
    assert keys([batch]) == [(2, "b")]
    assert places(refusals) == [(1, "key")]


def test_a_slice_of_a_map_column_keeps_its_own_entries() -> None:
    column = pa.array([[("a", 1)], [("b", 2), ("c", 3)], None, [("d", 4)]], pa.map_(pa.string(), pa.int64()))
    assert parquet_files._maps(column[1:]) == [{"b": 2, "c": 3}, None, {"d": 4}]


@pytest.mark.parametrize(("unit", "ticks_per_s"), [("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_a_parquet_time_is_exact_in_every_unit_and_refused_beyond_the_year_9999(tmp_path: Path, unit: str, ticks_per_s: int) -> None:
    times = pa.array([1_767_225_600 * ticks_per_s, 2**62, None], pa.int64()).cast(pa.timestamp(unit, "Mars/Base"))
    columns = {"key": list("abc"), "weight": [1] * 3, "demands": ["{}"] * 3, "expires_at": times}
    ((batch, refusals),) = read_items(write_parquet(tmp_path / "i.parquet", columns))
    assert batch.expires_at[0] == datetime(2026, 1, 1, tzinfo=UTC)
    assert places(refusals) == ([] if unit == "ns" else [(2, "expires_at")])  # int64 nanoseconds end in the year 2262


def test_parquet_is_read_in_batches_that_remember_line_and_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_files, "CHUNK_ROWS", 2)
    demands = pa.array([[(str(i), i + 1)] for i in range(5)], pa.map_(pa.string(), pa.int64()))
    path = write_parquet(tmp_path / "i.parquet", {"key": ["a", "b", "c", "d", "a"], "weight": [1] * 5, "demands": demands})
    parts = list(read_items(path))
    assert [keys([batch]) for batch, _ in parts] == [[(1, "a"), (2, "b")], [(3, "c"), (4, "d")], []]
    assert [batch.demand_keys for batch, _ in parts] == [["0", "1"], ["2", "3"], []]
    assert places(parts[-1][1]) == [(5, "key")]


def test_large_rows_make_small_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "CHUNK_BYTES", 100)
    batches, _ = read(tmp_path / "i.csv", HEADER + "".join(f'{i},1,"{{ {" " * 50} }}"\n' for i in range(4)))
    assert [len(batch) for batch in batches] == [2, 2, 0]


def test_resources_are_read_from_every_format(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("key,capacity,kind\ngpu,3,\ndisk,-1,\nbudget,5,consumable\n")
    (tmp_path / "r.jsonl").write_text('{"key":"gpu","capacity":3}\n{"key":"disk"}\n{"key":"budget","capacity":5,"kind":"consumable"}\n')
    pq.write_table(
        pa.table({"key": ["gpu", "disk", "budget"], "capacity": [3, -1, 5], "kind": [None, None, "consumable"]}), tmp_path / "r.parquet"
    )
    for suffix in ("csv", "jsonl", "parquet"):
        ((batch, refusals),) = read_resources(tmp_path / f"r.{suffix}")
        assert (batch.keys, batch.capacities.tolist(), batch.kinds) == (["gpu", "budget"], [3, 5], ["renewable", "consumable"])
        assert [refusal.field for refusal in refusals] == ["capacity"]


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("i.csv", b"", "expected rows, found an empty file"),
        ("i.jsonl", b"", "expected rows, found an empty file"),
        ("i.parquet", b"PAR1 or not", "expected a Parquet file"),
        ("i.csv.gz", b"key,weight", "expected gzip data"),
        ("i.csv.gz", gzip.compress(b"key,weight,demands\n" * 99, mtime=0)[:-20], "expected gzip data"),
        ("i.xlsx", b"x", r"expected a file ending in \.csv, \.jsonl"),
        ("i.parquet.gz", b"x", "expected a file ending in"),
        ("csv", b"x", "expected a file ending in"),
        ("i.csv", b"key,wieght,demands\n", r"unknown column 'wieght' \(did you mean 'weight'\?\); missing column 'weight'"),
        ("i.csv", b"key;weight;demands\n", "missing column 'key'"),
        ("i.csv", b"key,weight,demands,key\n", "column 'key' twice"),
        ("i.csv", "key,weight,demands\n".encode("utf-16"), "expected text in UTF-8"),
        ("i.csv", b'"key,weight,demands\n', "expected a header line"),
    ],
)
def test_a_file_that_is_wrong_as_a_whole_is_refused_as_a_whole(tmp_path: Path, name: str, content: bytes, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        read(tmp_path / name, content)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.csv: expected a readable file, found No such file"):
        list(read_items(tmp_path / "nowhere.csv"))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UsageError, match="found Is a directory"):
        list(read_items(tmp_path / "folder.csv"))


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
ITEM = st.fixed_dictionaries(
    {
        "key": TEXT,
        "weight": st.integers(-1, 2**64),
        "demands": st.dictionaries(TEXT, st.integers(0, 3), max_size=2),
        "payload": st.none() | st.dictionaries(TEXT, TEXT, max_size=2),
    }
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # each example writes its files anew
@given(st.lists(ITEM, max_size=6))
def test_every_format_accepts_and_refuses_the_same_rows(tmp_path: Path, items: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["key", "weight", "demands", "payload"])
    for item in items:
        cells = [json.dumps(item[name]) if item[name] is not None else "" for name in ("demands", "payload")]
        writer.writerow([item["key"], item["weight"], *cells])
    from_csv, refused_csv = read(tmp_path / "i.csv", text.getvalue())
    from_json, refused_json = read(tmp_path / "i.jsonl", "\n" + "\n".join(map(json.dumps, items)))
    for ours, theirs in zip(from_csv, from_json, strict=True):
        assert ours.keys == theirs.keys
        assert ours.payloads == theirs.payloads
        assert ours.demand_keys == theirs.demand_keys
        assert ours.demand_quantities.tolist() == theirs.demand_quantities.tolist()
    assert [(refusal.field, refusal.expected) for refusal in refused_csv] == [(refusal.field, refusal.expected) for refusal in refused_json]
    assert sum(map(len, from_csv)) + len(refused_csv) == len(items)
