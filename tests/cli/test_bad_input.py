"""What strangers send: each bad row is refused with item, field, expected and found, and is not stored."""

from __future__ import annotations

from typing import Any

from tests.cli.conftest import CommandLine, Submit

GOOD = '{"key": "good", "weight": 1, "demands": {"gpu": 1}}'
WHOLE = "a whole number from 0 to 9223372036854775807"
POSITIVE = "a whole number from 1 to 9223372036854775807"


BAD_NUMBERS = [
    ('"weight": NaN, "demands": {}', "weight", WHOLE, "nan"),
    ('"weight": Infinity, "demands": {}', "weight", WHOLE, "inf"),
    ('"weight": -Infinity, "demands": {}', "weight", WHOLE, "-inf"),
    ('"weight": -1, "demands": {}', "weight", WHOLE, "-1"),
    ('"weight": 1.5, "demands": {}', "weight", WHOLE, "1.5"),
    ('"weight": 9223372036854775808, "demands": {}', "weight", WHOLE, "9223372036854775808"),
    ('"weight": 1, "demands": {"gpu": NaN}', "demands.gpu", POSITIVE, "nan"),
    ('"weight": 1, "demands": {"gpu": Infinity}', "demands.gpu", POSITIVE, "inf"),
    ('"weight": 1, "demands": {"gpu": -1}', "demands.gpu", POSITIVE, "-1"),
    ('"weight": 1, "demands": {"gpu": 0}', "demands.gpu", POSITIVE, "0"),
    ('"weight": 1, "demands": {"gpu": 0.5}', "demands.gpu", POSITIVE, "0.5"),
    ('"weight": 1, "demands": {"gpu": 9223372036854775808}', "demands.gpu", POSITIVE, "9223372036854775808"),
    ('"weight": 1, "demands": {"cpu": 1}', "demands.cpu", "a resource of this pool", "no resource of that key"),
    ('"weight": 1, "demands": {"gpu": 4}', "demands.gpu", "at most its capacity, 3", "4"),
]
BAD_TEXTS = [
    ('{"key": "b\\u0000d", "weight": 1, "demands": {}}', "key"),
    ('{"key": "b\\ud800d", "weight": 1, "demands": {}}', "key"),
    ('{"key": "bad", "weight": 1, "demands": {"g\\u0000u": 1}}', "demands"),
    ('{"key": "bad", "weight": 1, "demands": {}, "payload": {"x": "\\u0000"}}', "payload"),
    ('{"key": "bad", "weight": 1, "demands": {}, "payload": {"x": "\\udfff"}}', "payload"),
]


def test_a_number_that_cannot_be_is_refused(pipeline: CommandLine, pool: str) -> None:
    rows = [f'{{"key": "bad-{i}", {body}}}' for i, (body, *_) in enumerate(BAD_NUMBERS)]
    receipt = pipeline("items", "import", pipeline.file("i.jsonl", "\n".join([GOOD, *rows])), "--pool", pool, exits=5)
    assert receipt["accepted"] == 1
    assert sorted(receipt["refused"], key=lambda row: row["line"]) == [
        {"line": i + 2, "item": f"bad-{i}", "field": field, "expected": expected, "found": found}
        for i, (_, field, expected, found) in enumerate(BAD_NUMBERS)
    ]
    assert stored(pipeline) == ["good"]


def test_text_that_postgresql_cannot_hold_is_refused(pipeline: CommandLine, pool: str) -> None:
    file = pipeline.file("i.jsonl", "\n".join([GOOD, *(row for row, _ in BAD_TEXTS)]))
    refused = pipeline("items", "import", file, "--pool", pool, exits=5)["refused"]
    assert [row["line"] for row in refused] == [2, 3, 4, 5, 6]
    for row, (_, field) in zip(refused, BAD_TEXTS, strict=True):
        assert row["field"].startswith(field)
        assert row["expected"]
        assert row["found"]
    assert stored(pipeline) == ["good"]
    pipeline.shown("items", "import", file, "--pool", pool, exits=5)  # a terminal can show it, whatever it is


def test_a_payload_of_50_mb_is_refused(pipeline: CommandLine, pool: str) -> None:
    row = '{"key": "bad", "weight": 1, "demands": {}, "payload": {"x": "%s"}}' % ("y" * 50_000_000)
    (refused,) = pipeline("items", "import", pipeline.file("i.jsonl", f"{GOOD}\n{row}\n"), "--pool", pool, exits=5)["refused"]
    assert refused["line"] == 2
    assert len(str(refused)) < 1000
    assert stored(pipeline) == ["good"]


def test_a_bundle_of_the_wrong_size_or_with_a_late_member_is_refused(pipeline: CommandLine, submit: Submit, pool: str) -> None:
    def member(key: str, size: int, bundle: str = "full") -> dict[str, Any]:
        return {"key": key, "weight": 1, "demands": {"gpu": 1}, "bundle_key": bundle, "bundle_size": size}

    pipeline("items", "import", pipeline.rows("i.jsonl", [member("a", 2), member("b", 2)]), "--pool", pool)
    for late in (member("c", 2), member("c", 3)):
        (refused,) = pipeline("items", "import", pipeline.rows("i.jsonl", [late]), "--pool", pool, exits=5)["refused"]
        assert (refused["item"], refused["field"].startswith("bundle")) == ("c", True)
    (refused,) = pipeline("items", "import", pipeline.rows("i.jsonl", [member("d", 0, "other")]), "--pool", pool, exits=5)["refused"]
    assert (refused["item"], refused["field"]) == ("d", "bundle_size")
    assert stored(pipeline) == ["a", "b"]


def stored(pipeline: CommandLine) -> list[str]:
    return [item["key"] for item in pipeline("items", "list", "--pool", "p")["items"]]


def test_arguments_that_are_no_utf8_are_a_usage_error(pipeline: CommandLine, pool: str) -> None:
    """Python hands the shell's bytes on as lone surrogates."""
    out, err = pipeline.shown("items", "cancel", "caf\udce9", "--pool", pool, exits=2)
    assert (out, err.strip()) == ("", "UsageError: expected arguments in UTF-8, found 'caf\\udce9'")
