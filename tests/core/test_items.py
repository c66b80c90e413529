"""What a stranger's item must look like, and what is said about one that does not."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_project.core.errors import Refusal
from pipeline_project.core.items import BUNDLE_SIZE_LIMIT, DEMANDS_LIMIT, PAYLOAD_BYTES_LIMIT, ItemBatch, check_item_rows

GOOD = {"key": "a", "weight": 5, "demands": {"gpu": 2}}


def check(*rows: Any) -> tuple[ItemBatch, list[Refusal]]:
    return check_item_rows(enumerate(rows, start=1))


def refusal(**changed: Any) -> Refusal:
    batch, refusals = check(GOOD | changed)
    assert len(batch) == 0
    assert len(refusals) == 1
    return refusals[0]


def test_good_rows_become_columns() -> None:
    full = {
        "key": "b",
        "weight": 0,
        "demands": '{"gpu": 1, "disk": 9223372036854775807}',
        "payload": {"z": [1, "ü"], "a": None},
        "not_before": "2026-01-01T00:00:00+01:00",
        "expires_at": datetime(2026, 1, 2, tzinfo=UTC),
        "bundle_key": "pair",
        "bundle_size": 2,
    }
    batch, refusals = check(GOOD, full)
    assert refusals == []
    assert batch.lines.tolist() == [1, 2]
    assert batch.keys == ["a", "b"]
    assert batch.weights.tolist() == [5, 0]
    assert batch.payloads == [None, '{"a":null,"z":[1,"ü"]}']
    assert batch.not_before == [None, datetime(2025, 12, 31, 23, tzinfo=UTC)]
    assert batch.expires_at == [None, datetime(2026, 1, 2, tzinfo=UTC)]
    assert batch.bundle_keys == [None, "pair"]
    assert batch.bundle_sizes == [None, 2]
    assert batch.demand_indptr.tolist() == [0, 1, 3]
    assert batch.demand_keys == ["gpu", "gpu", "disk"]
    assert batch.demand_quantities.tolist() == [2, 1, 2**63 - 1]
    assert batch.weights.dtype == batch.demand_quantities.dtype == np.int64


def test_an_item_that_needs_nothing_is_accepted() -> None:
    batch, refusals = check(GOOD | {"demands": {}})
    assert (len(batch), refusals) == (1, [])
    assert batch.demand_indptr.tolist() == [0, 0]


NO_INTEGERS = [float("nan"), float("inf"), -1, 2.5, 3.0, 2**63, "7", "", True, None, Decimal(3), [1], 10**5000]


@pytest.mark.parametrize("weight", NO_INTEGERS, ids=lambda value: f"{value!r:.20}" if value != 10**5000 else "googol")
def test_a_weight_is_a_whole_number_that_fits_int64(weight: Any) -> None:
    refused = refusal(weight=weight)
    assert (refused.line, refused.field, refused.item) == (1, "weight", "a")
    assert refused.expected == "a whole number from 0 to 9223372036854775807"
    assert len(refused.found) <= 120


@pytest.mark.parametrize("quantity", [*NO_INTEGERS[:-1], 0])
def test_a_quantity_is_a_whole_number_above_zero_and_its_resource_is_named(quantity: Any) -> None:
    refused = refusal(demands={"disk": 1, "gpu": quantity})
    assert refused.field == "demands.gpu"
    assert refused.expected == "a whole number from 1 to 9223372036854775807"


@pytest.mark.parametrize("key", ["", "x" * 257, "a\x00b", "a\ud800", "line\nbreak", "\x7f", 5, None, b"a"])
def test_a_key_is_short_visible_text(key: Any) -> None:
    refused = refusal(key=key)
    assert refused.field == "key"
    refused.found.encode()  # what is shown can be printed


def test_a_key_may_have_spaces_and_any_script() -> None:
    batch, refusals = check(*(GOOD | {"key": key} for key in ("a b", "x" * 256, "日本", "no\u00a0break", "🚀")))
    assert (len(batch), refusals) == (5, [])


@pytest.mark.parametrize("resource", ["", "a\x00", "a\udfff", "x" * 257])
def test_a_resource_key_is_checked_too(resource: str) -> None:
    assert refusal(demands={resource: 1}).field == "demands"


@pytest.mark.parametrize("demands", [None, 5, [], "[]", "{", '{"a":1,"a":2}', [("a", 1), ("a", 1)], '{"a":1} x', "[" * 100_000])
def test_demands_are_one_json_object_without_repeated_names(demands: Any) -> None:
    assert refusal(demands=demands).field == "demands"


def test_an_item_has_a_limit_of_demands() -> None:
    assert len(check(GOOD | {"demands": {str(i): 1 for i in range(DEMANDS_LIMIT)}})[0]) == 1
    assert refusal(demands={str(i): 1 for i in range(DEMANDS_LIMIT + 1)}).found == "10001"


@pytest.mark.parametrize(
    "payload",
    [
        "[1]",
        "5",
        "x",
        5,
        '{"a": "\\u0000"}',
        '{"\\u0000": 1}',
        '{"a": "\\ud800"}',
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a":1,"a":1}',
        {"a": "\x00"},
    ],
)
def test_a_payload_is_a_json_object_that_postgresql_can_store(payload: Any) -> None:
    assert refusal(payload=payload).field == "payload"


@pytest.mark.parametrize("depth", [99, 100, 900, 20_000])
def test_a_payload_is_nested_to_a_limit_that_is_the_same_on_every_python(depth: int) -> None:
    text = '{"a":' + "[" * depth + "]" * depth + "}"
    assert len(check(GOOD | {"payload": text})[0]) == (depth < 100)


def test_an_escaped_backslash_before_u0000_is_no_nul() -> None:
    batch, _ = check(GOOD | {"payload": '{"a": "\\\\u0000"}'})
    assert batch.payloads == ['{"a":"\\\\u0000"}']


def test_a_payload_counts_bytes_not_characters() -> None:
    frame = len('{"a":""}')
    assert len(check(GOOD | {"payload": {"a": "x" * (PAYLOAD_BYTES_LIMIT - frame)}})[0]) == 1
    assert refusal(payload={"a": "x" * (PAYLOAD_BYTES_LIMIT - frame + 1)}).field == "payload"
    assert refusal(payload={"a": "ü" * (PAYLOAD_BYTES_LIMIT // 2)}).field == "payload"


def test_a_huge_payload_is_refused_unread_and_shown_short() -> None:
    refused = refusal(payload="{" + " " * 50_000_000)
    assert "JSON object of at most 65536 bytes" in refused.expected
    assert "50,000,001" in refused.found
    assert len(refused.found) < 120


@pytest.mark.parametrize("when", ["2026-01-01", "2026-01-01T10:00:00", "tomorrow", 5, datetime(2026, 1, 1), "0001-01-01T00:00+14:00"])  # noqa: DTZ001  # a naive time is the case
def test_a_time_without_zone_is_refused(when: Any) -> None:
    assert "with time zone" in refusal(expires_at=when).expected


def test_an_item_expires_after_it_may_start() -> None:
    refused = refusal(not_before="2026-01-01T10:00+01:00", expires_at="2026-01-01T09:00Z")
    assert refused.field == "expires_at"


@pytest.mark.parametrize("bundle", [{"bundle_key": "b"}, {"bundle_size": 2}])
def test_a_bundle_needs_key_and_size(bundle: dict[str, Any]) -> None:
    assert refusal(**bundle).found == "nothing"


@pytest.mark.parametrize("size", [0, -1, BUNDLE_SIZE_LIMIT + 1, 1.0])
def test_a_bundle_has_a_sensible_size(size: Any) -> None:
    assert refusal(bundle_key="b", bundle_size=size).field == "bundle_size"


def test_the_second_row_with_a_key_is_refused_and_points_to_the_first() -> None:
    batch, refusals = check(GOOD, GOOD | {"key": "b"}, GOOD)
    assert batch.keys == ["a", "b"]
    assert [(r.line, r.field, r.found) for r in refusals] == [(3, "key", "the key of line 1 again")]


def test_a_refused_row_does_not_take_its_key() -> None:
    batch, refusals = check(GOOD | {"weight": -1}, GOOD)
    assert batch.lines.tolist() == [2]
    assert [r.line for r in refusals] == [1]


def test_repeated_keys_are_found_across_batches() -> None:
    seen: dict[str, int] = {}
    check_item_rows([(1, GOOD)], seen)
    batch, refusals = check_item_rows([(2, GOOD)], seen)
    assert (len(batch), len(refusals)) == (0, 1)


def test_an_unknown_field_is_refused_with_the_name_that_was_meant() -> None:
    assert "did you mean 'weight'" in refusal(wieght=5).found


def test_a_row_that_is_no_object_is_refused() -> None:
    assert check([1, 2])[1][0].field == "row"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=6,
)
STRANGE = JSON_VALUES | st.text(st.characters(categories=["Cs", "Cc", "L"])) | st.datetimes()
ROWS = st.fixed_dictionaries(
    {
        "key": st.sampled_from(["a", "b", "c", "d"]) | STRANGE,
        "weight": st.integers(0, 9) | STRANGE,
        "demands": st.dictionaries(st.sampled_from("xyz"), st.integers(1, 9)) | STRANGE,
    },
    optional={
        "payload": st.dictionaries(st.text(), JSON_VALUES, max_size=2) | STRANGE,
        "expires_at": st.datetimes(timezones=st.just(UTC)) | STRANGE,
        "bundle_key": st.just("b") | STRANGE,
        "bundle_size": st.just(2) | STRANGE,
    },
)


@given(st.lists(ROWS | STRANGE, max_size=8))
def test_each_row_is_either_in_the_batch_or_refused_once(rows: list[Any]) -> None:
    batch, refusals = check(*rows)
    lines = [*batch.lines.tolist(), *(refused.line for refused in refusals)]
    assert sorted(lines) == list(range(1, len(rows) + 1))
    assert len(set(batch.keys)) == len(batch)
    assert batch.demand_indptr[-1] == len(batch.demand_keys) == len(batch.demand_quantities)
    for text in batch.payloads:
        assert text is None or isinstance(json.loads(text.encode().decode()), dict)
    json.dumps([refused.as_dict() for refused in refusals], ensure_ascii=False).encode()  # every refusal can be printed
