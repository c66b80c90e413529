"""A policy says what it means, has one hash however it is written, and names every error at once."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_project.core import policy_reference
from pipeline_project.core.policy import Policy, PolicyRefused, duration, seconds

DOCS = Path(__file__).parents[2] / "docs"


def errors(text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(PolicyRefused) as refused:
        Policy.from_yaml(text, "p.yaml")
    return [(refusal.line, refusal.field, refusal.found) for refusal in refused.value.refusals]


def test_the_printed_defaults_are_the_defaults() -> None:
    assert Policy.from_yaml(Policy.defaults_yaml(), "defaults") == Policy()


def test_an_empty_file_is_the_default_policy() -> None:
    assert Policy.from_yaml("", "empty") == Policy.from_yaml("{}", "empty") == Policy()


def test_the_reference_page_is_what_the_models_say() -> None:
    page = (DOCS / "policy.md").read_text(encoding="utf-8")
    assert page == policy_reference.as_markdown(Policy), "run: pipeline policy show --reference > docs/policy.md"


def test_every_field_has_a_meaning() -> None:
    assert [entry.path for entry in policy_reference.entries(Policy) if not entry.meaning] == []


def test_the_hash_does_not_depend_on_how_the_file_is_written() -> None:
    one = Policy.from_yaml("ttl: {hold: 60m, lease: 300s}\nsolver: {seed: 1}", "one")
    other = Policy.from_yaml("# comment\nsolver:\n  seed: 1\nttl:\n  lease: 5m\n  hold: 1h\n", "other")
    assert one.hash == other.hash != Policy().hash


def test_the_canonical_form_reads_back() -> None:
    policy = Policy.from_yaml("source: {items: select 1, every: 90s, database: env:WAREHOUSE}\nlimits: {max_selected: 5}", "p")
    assert Policy.from_document(json.loads(policy.canonical()), "canonical") == policy
    assert policy.source is not None
    assert policy.source.every == 90


def test_every_error_is_named_at_once_with_its_line() -> None:
    text = """\
ttl:
  hold: 900
  leese: 3m
retries: {on_failure: no, max_attempts: 010}
checks:
  max_gap: 1.5
solver: 3
source:
  every: 0s
"""
    assert errors(text) == [
        (2, "ttl.hold", "900"),
        (3, "ttl.leese", "'leese' (did you mean 'lease'?)"),
        (4, "retries.max_attempts", "'010'"),
        (4, "retries.on_failure", "'no'"),
        (6, "checks.max_gap", "1.5"),
        (7, "solver", "3"),
        (8, "source.items", "nothing"),
        (9, "source.every", "'0s'"),
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("solver: {seed: 1}\nsolver: {seed: 2}", "'solver' again, first on line 1"),
        ("ttl:\n  hold: 1m\n  hold: 2m", "'hold' again, first on line 2"),
        ("ttl: &a {hold: 1m}\nsource: *a", "an anchor or an alias (& or *)"),
        ("ttl: !!python/object:os.system {}", "the tag tag:yaml.org,2002:python/object:os.system"),
        ("? [a]\n: 1", "anything"),
        ("1: 2", "'1'"),
        ("a: [", "anything"),
        ("a\x00b", "anything"),
        ("[" * 5000, "more"),
        ("#" * 70_000, "70000"),
        ("--- {}\n--- {}", "anything"),
        ("<<: {solver: 1}", "'<<' (did you mean"),
    ],
)
def test_the_traps_of_yaml_are_refused(text: str, found: str) -> None:
    (refused,) = errors(text)
    assert found in ("anything", refused[2]) or refused[1] == "<<"


@pytest.mark.parametrize("text", ["[1]", "5", "hello", "true"])
def test_a_document_that_is_no_mapping_is_refused(text: str) -> None:
    assert [field for _, field, _ in errors(text)] == ["document"]


@pytest.mark.parametrize(
    "text", ["15", "m", "1.5h", "-1m", "1 h", "1H", "1w", "٣m", "01h", "36501d", "99999999999d", "1h\n", "", None, 5, True]
)
def test_nonsense_is_no_duration(text: Any) -> None:
    with pytest.raises(ValueError, match="a duration from"):
        seconds(text)


@given(st.integers(0, 36_500 * 86_400))
def test_a_duration_reads_back(length: int) -> None:
    assert seconds(duration(length)) == length


def test_durations_are_whole_seconds() -> None:
    assert [seconds(text) for text in ("0s", "90s", "15m", "6h", "30d")] == [0, 90, 900, 21_600, 2_592_000]


@pytest.mark.parametrize(
    "url", ["postgresql://u:s3cret@host/db", "postgresql://host/db?password=s3cret", "mysql://host/db", "env:", "warehouse"]
)
def test_a_password_has_no_place_in_a_policy_nor_in_the_message_about_it(url: str) -> None:
    with pytest.raises(PolicyRefused) as refused:
        Policy.from_yaml(f"source: {{items: select 1, database: '{url}'}}", "p")
    assert "source.database: expected a postgresql:// URL without a password" in str(refused.value)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("url", ["postgresql://reader@host:5432/db", "postgresql+psycopg:///db?host=/run/pg", "env:WAREHOUSE_URL"])
def test_a_source_names_its_database_without_a_secret(url: str) -> None:
    policy = Policy.from_yaml(f"source: {{items: select 1, database: '{url}'}}", "p")
    assert policy.source is not None
    assert policy.source.database == url


@pytest.mark.parametrize("query", ['"\\0"', '"\\ud800"', "' '", "''", "5"])
def test_a_query_is_text_that_can_be_stored(query: str) -> None:
    assert [field for _, field, _ in errors(f"source: {{items: {query}}}")] == ["source.items"]


def test_an_unprintable_name_is_shown_escaped() -> None:
    ((_, field, found),) = errors('"\\u001b[31m\\ud800": 1')
    assert (field + found).isprintable()


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c))
)
def test_any_document_is_either_a_policy_or_refused(document: Any) -> None:
    for shaped in (document, {"ttl": document}, {"checks": {"max_gap": document}}, {"source": {"items": document}}):
        with contextlib.suppress(PolicyRefused):
            Policy.from_document(shaped, "p").canonical().decode()
