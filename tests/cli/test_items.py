"""`pipeline items`: brought in, looked at, changed, asked about."""

from __future__ import annotations

import time

import pytest
import sqlalchemy as sa

from pipeline_project.cli import receipts
from pipeline_project.store.database import Database
from tests.cli.conftest import CommandLine, Submit
from tests.world import entered


def test_an_import_can_be_repeated_and_revises_what_changed(submit: Submit) -> None:
    assert submit(a=1, b=2) == {"pool": "p", "accepted": 2, "unchanged": 0, "revised": 0, "refused": []}
    assert submit(a=1, b=2) == {"pool": "p", "accepted": 0, "unchanged": 2, "revised": 0, "refused": []}
    assert submit(a=1, b=3) == {"pool": "p", "accepted": 0, "unchanged": 1, "revised": 1, "refused": []}


def test_good_rows_go_in_though_bad_ones_are_refused(pipeline: CommandLine, pool: str) -> None:
    file = pipeline.file("i.csv", 'key,weight,demands\na,1,"{""gpu"": 1}"\nb,-1,"{""gpu"": 1}"\n')
    receipt = pipeline("items", "import", file, "--pool", pool, exits=5)
    assert receipt["accepted"] == 1
    expected = {"line": 3, "field": "weight", "expected": "a whole number from 0 to 9223372036854775807", "found": "'-1'", "item": "b"}
    assert receipt["refused"] == [expected]


def test_a_person_sees_the_first_refused_rows_and_how_many_more(pipeline: CommandLine, pool: str) -> None:
    rows = [{"key": f"bad-{i}", "weight": -1, "demands": {}} for i in range(receipts.SHOWN + 5)]
    out, err = pipeline.shown("items", "import", pipeline.rows("i.jsonl", rows), "--pool", pool, exits=5)
    assert out.count("bad-") == receipts.SHOWN
    assert "and 5 more; --json lists all" in out
    assert "all others are in" in err


def test_a_file_that_is_not_there_is_a_usage_error(pipeline: CommandLine, pool: str) -> None:
    for name in ("nowhere.csv", "items.xlsx"):
        assert pipeline("items", "import", name, "--pool", pool, exits=2)["error"]["message"].startswith(name)


def test_the_list_can_be_cut_and_says_so(pipeline: CommandLine, submit: Submit, pool: str) -> None:
    submit(a=1, b=2, c=3)
    listed = pipeline("items", "list", "--pool", pool, "--limit", "2")
    assert [item["key"] for item in listed["items"]] == ["a", "b"]
    assert (listed["total"], listed["by_state"]) == (3, {"pending": 3})
    assert "2 of 3; --limit shows more" in pipeline.shown("items", "list", "--pool", pool, "--limit", "2")[0]
    assert pipeline("items", "list", "--pool", pool, "--state", "selected")["items"] == []
    assert pipeline("items", "list", "--pool", pool, "--state", "lost", exits=2)["error"]["kind"] == "UsageError"


def test_show_has_everything_about_an_item(pipeline: CommandLine, submit: Submit, pool: str) -> None:
    submit(a=5)
    item = pipeline("items", "show", "a", "--pool", pool)
    assert (item["key"], item["state"], item["weight"], item["origin"]) == ("a", "pending", 5, "producer")
    assert [(demand["key"], demand["quantity"]) for demand in item["demands"]] == [("gpu", 1)]
    assert "pending" in pipeline.shown("items", "show", "a", "--pool", pool)[0]


def test_an_unknown_item_is_refused(pipeline: CommandLine, pool: str) -> None:
    for verb in ("show", "why", "timeline", "cancel", "revive"):
        assert pipeline("items", verb, "nobody", "--pool", pool, exits=5)["error"]["kind"] == "Unknown"


def test_keys_are_shown_as_they_are(pipeline: CommandLine, pool: str) -> None:
    pipeline("items", "import", pipeline.rows("i.jsonl", [{"key": "[red]x[/red]", "weight": 1, "demands": {}}]), "--pool", pool)
    assert "[red]x[/red]" in pipeline.shown("items", "list", "--pool", pool)[0]


def test_revise_changes_what_is_given_and_leaves_the_rest(pipeline: CommandLine, submit: Submit, pool: str) -> None:
    submit(a=5)
    changed = pipeline("items", "revise", "a", "--pool", pool, "--weight", "9", "--expires-at", "2100-01-01T00:00:00Z")
    assert changed == {"item": "a", "pool": "p", "revised": True, "state": "pending", "revision": 2}
    item = pipeline("items", "show", "a", "--pool", pool)
    assert (item["weight"], item["expires_at"]) == (9, "2100-01-01T00:00:00+00:00")
    assert [demand["key"] for demand in item["demands"]] == ["gpu"]
    pipeline("items", "revise", "a", "--pool", pool, "--demands", '{"gpu": 2}', "--payload", '{"x": 1}', "--expires-at", "none")
    item = pipeline("items", "show", "a", "--pool", pool)
    assert (item["expires_at"], item["payload"], item["demands"][0]["quantity"]) == (None, {"x": 1}, 2)
    assert pipeline("items", "revise", "a", "--pool", pool, "--weight", "9")["revised"] is False


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        ([], 2, "expected something to change"),
        (["--weight", "1.5"], 5, "weight: expected a whole number from 0 to 9223372036854775807, found 1.5"),
        (["--weight", "-1"], 5, "found -1"),
        (["--weight", "NaN"], 5, "found nan"),
        (["--weight", "many"], 2, "expected JSON, found 'many'"),
        (["--demands", '{"gpu": 4}'], 5, "demands.gpu: expected at most its capacity, 3, found 4"),
        (["--demands", '{"cpu": 1}'], 5, "demands.cpu: expected a resource of this pool"),
        (["--expires-at", "2000-01-01T00:00:00Z"], 5, "expires_at"),
        (["--expires-at", "tomorrow"], 5, "expected an ISO 8601 time with time zone"),
    ],
)
def test_a_nonsensical_revision_is_refused(
    pipeline: CommandLine, submit: Submit, pool: str, options: list[str], code: int, sentence: str
) -> None:
    submit(a=5)
    assert sentence in pipeline("items", "revise", "a", "--pool", pool, *options, exits=code)["error"]["message"]
    assert pipeline("items", "show", "a", "--pool", pool)["revision"] == 1


def test_a_claimed_item_is_not_revised(pipeline: CommandLine, submit: Submit, pool: str) -> None:
    submit(a=5)
    pipeline("cycle", "run", "--pool", pool)
    pipeline("claim", "--pool", pool, "--executor", "e")
    assert "claimed" in pipeline("items", "revise", "a", "--pool", pool, "--weight", "9", exits=5)["error"]["message"]


def test_cancel_ends_what_has_not_ended(pipeline: CommandLine, submit: Submit, pool: str) -> None:
    submit(a=5, b=4)
    pipeline("cycle", "run", "--pool", pool)
    (claim,) = pipeline("claim", "--pool", pool, "--executor", "e")["claims"]
    pipeline("complete", "--pool", pool, f"{claim['item']}:{claim['token']}")
    answer = pipeline("items", "cancel", "a", "b", "--pool", pool, "--reason", "no longer wanted", exits=5)
    assert answer["cancelled"] == ["b"]
    assert [(row["item"], row["found"]) for row in answer["refused"]] == [("a", "completed")]
    assert pipeline("items", "cancel", "b", "--pool", pool) == {"pool": "p", "cancelled": [], "refused": []}
    assert pipeline("items", "timeline", "b", "--pool", pool)["transitions"][-1]["reason"] == "no longer wanted"


def test_revive_takes_what_failed_and_not_what_was_cancelled(pipeline: CommandLine, submit: Submit, pool: str) -> None:
    submit(a=5, b=4)
    pipeline("policy", "apply", pipeline.file("p.yaml", "retries: {max_attempts: 1}"), "--pool", pool)
    pipeline("cycle", "run", "--pool", pool)
    (claim,) = pipeline("claim", "--pool", pool, "--executor", "e")["claims"]
    pipeline("fail", "--pool", pool, f"{claim['item']}:{claim['token']}", "--error", "boom")
    pipeline("items", "cancel", "b", "--pool", pool)
    answer = pipeline("items", "revive", "a", "b", "--pool", pool, exits=5)
    assert answer["revived"] == ["a"]
    assert [(row["item"], row["found"]) for row in answer["refused"]] == [("b", "cancelled")]


def test_why_begins_with_a_sentence_and_names_who_is_in_the_way(pipeline: CommandLine, submit: Submit, pool: str) -> None:
    submit(a=9, b=8, c=7, loser=1)
    cycle = pipeline("cycle", "run", "--pool", pool)["cycle"]
    answer = pipeline("items", "why", "loser", "--pool", pool)
    assert answer["state"] == "pending"
    (verdict,) = answer["verdicts"]
    assert (verdict["cycle"], verdict["verdict"]) == (cycle, "deferred")
    (blocker,) = verdict["blockers"]
    assert (blocker["resource"], {holder["item"] for holder in blocker["holders"]}) == ("gpu", {"a", "b", "c"})
    out, _ = pipeline.shown("items", "why", "loser", "--pool", pool)
    assert out.splitlines()[0].startswith("loser is pending")
    assert "a (9)" in out


def test_the_timeline_is_the_audit_trail_of_an_item(pipeline: CommandLine, submit: Submit, pool: str) -> None:
    submit(a=9)
    pipeline("cycle", "run", "--pool", pool)
    timeline = pipeline("items", "timeline", "a", "--pool", pool)
    assert [move["event"] for move in timeline["transitions"]] == ["submit", "select"]
    assert "select" in pipeline.shown("items", "timeline", "a", "--pool", pool)[0]


def test_a_pool_without_a_source_cannot_be_pulled(pipeline: CommandLine, pool: str) -> None:
    assert "names no source" in pipeline("items", "pull", "--pool", pool, exits=5)["error"]["message"]


def test_pull_brings_the_rows_of_the_source(pipeline: CommandLine, pool: str, database: Database) -> None:
    with entered(database) as connection:
        connection.execute(sa.text("create table public.work (key text, weight bigint, demands jsonb)"))
        connection.execute(sa.text("grant select on public.work to pipeline"))
        connection.execute(sa.text("""insert into public.work values ('a', 1, '{"gpu": 1}'), ('b', -1, '{"gpu": 1}')"""))
    policy = pipeline.file("p.yaml", "source: {items: 'select key, weight, demands from work'}")
    pipeline("policy", "apply", policy, "--pool", pool)
    report = pipeline("items", "pull", "--pool", pool, exits=5)
    assert (report["accepted"], report["cancelled"], report["withheld"]) == (1, 0, None)
    assert [(row["item"], row["field"]) for row in report["refused"]] == [("b", "weight")]
    broken = pipeline.file("p.yaml", "source: {items: 'select nothing from nowhere'}")
    pipeline("policy", "apply", broken, "--pool", pool)
    assert 'relation "nowhere" does not exist' in pipeline("items", "pull", "--pool", pool, exits=5)["error"]["message"]


def test_dead_letters_are_listed_and_revived_by_filter(pipeline: CommandLine, submit: Submit, pool: str) -> None:
    assert "no dead letters" in pipeline.shown("items", "dead", "--pool", pool)[0]
    submit(a=1, b=1, c=1)
    moved = pipeline("items", "quarantine", "a", "b", "--pool", pool, "--reason", "its input is damaged")
    assert moved["quarantined"] == ["a", "b"]
    letters = pipeline("items", "dead", "--pool", pool)
    assert (letters["total"], {row["reason"] for row in letters["items"]}) == (2, {"its input is damaged"})
    assert letters["items"][0].keys() >= {"key", "state", "reason", "error", "attempts", "claims", "since"}
    assert pipeline("items", "revive", "--pool", pool, "--state", "failed")["revived"] == []
    assert sorted(pipeline("items", "revive", "--pool", pool, "--error", "damaged")["revived"]) == ["a", "b"]
    assert "expected keys, or --state or --error" in pipeline("items", "revive", "--pool", pool, exits=2)["error"]["message"]
    assert "expected failed or quarantined" in pipeline("items", "dead", "--pool", pool, "--state", "pending", exits=2)["error"]["message"]


def test_an_expiry_that_has_passed_revives_nothing(pipeline: CommandLine, submit: Submit, pool: str) -> None:
    submit(a=1)
    pipeline("items", "quarantine", "a", "--pool", pool, "--reason", "x")
    refused = pipeline("items", "revive", "a", "--pool", pool, "--expires-at", "2020-01-01T00:00:00Z", exits=5)["error"]
    assert "expected a time after" in refused["message"]
    assert pipeline("items", "revive", "a", "--pool", pool, "--expires-at", "2099-01-01T00:00:00Z")["revived"] == ["a"]
    assert pipeline("items", "show", "a", "--pool", pool)["expires_at"].startswith("2099-01-01")


# -- what ended long ago


@pytest.fixture
def long_ago(pipeline: CommandLine, submit: Submit, pool: str) -> str:
    """One item failed, one was withdrawn, both are archived; one waits."""
    policy = pipeline.file("short.yaml", "retention: {items: 1s}\nretries: {max_attempts: 1}\n")
    pipeline("policy", "apply", policy, "--pool", pool)
    submit(broken=2, withdrawn=1)
    pipeline("cycle", "run", "--pool", pool)
    (claim,) = pipeline("claim", "--pool", pool, "--executor", "e", "-n", "1")["claims"]
    pipeline("fail", f"broken:{claim['token']}", "--pool", pool, "--error", "disk full")
    pipeline("items", "cancel", "withdrawn", "--pool", pool)
    for listing in ("list", "dead"):
        assert pipeline("items", listing, "--pool", pool)["archived"] is False
    time.sleep(1.1)
    submit(waits=1)
    assert pipeline("upkeep", "sweep")["items_archived"] == 2
    return pool


def test_what_is_archived_is_listed_when_asked_for(pipeline: CommandLine, long_ago: str) -> None:
    archived = pipeline("items", "list", "--pool", long_ago, "--archived")["items"]
    assert [(item["key"], item["state"], item["weight"]) for item in archived] == [("withdrawn", "cancelled", 1), ("broken", "failed", 2)]
    newest = pipeline.shown("items", "list", "--pool", long_ago, "--archived", "--limit", "1")[0]
    assert "withdrawn" in newest
    assert "broken" not in newest
    assert "the newest 1" in newest
    failed = pipeline("items", "list", "--pool", long_ago, "--archived", "--state", "failed")
    assert [item["key"] for item in failed["items"]] == ["broken"]
    refused = pipeline("items", "list", "--pool", long_ago, "--archived", "--state", "pending", exits=2)
    assert "no such item is archived" in refused["error"]["message"]
    (letter,) = pipeline("items", "dead", "--pool", long_ago, "--archived", "--error", "disk")["items"]
    assert (letter["key"], letter["error"], letter["attempts"]) == ("broken", "disk full", 1)
    assert pipeline("items", "dead", "--pool", long_ago, "--archived", "--error", "fire")["items"] == []


def test_a_list_without_it_says_that_there_is_more(pipeline: CommandLine, long_ago: str) -> None:
    listed, dead = (pipeline("items", listing, "--pool", long_ago) for listing in ("list", "dead"))
    assert ([item["key"] for item in listed["items"]], listed["archived"]) == (["waits"], True)
    assert (dead["items"], dead["archived"]) == ([], True)
    for listing in ("list", "dead"):
        assert "--archived lists them" in pipeline.shown("items", listing, "--pool", long_ago)[0]
    assert "--archived" not in pipeline.shown("items", "list", "--pool", long_ago, "--state", "pending")[0]


def test_what_is_archived_is_answered_for_by_its_key_and_revived(pipeline: CommandLine, long_ago: str) -> None:
    assert pipeline("items", "show", "broken", "--pool", long_ago)["archived_at"]
    assert "failed" in pipeline("items", "why", "broken", "--pool", long_ago)["sentence"]
    assert [move["event"] for move in pipeline("items", "timeline", "broken", "--pool", long_ago)["transitions"]][-1] == "fail"
    assert pipeline("items", "revive", "broken", "--pool", long_ago)["revived"] == ["broken"]
    assert [item["key"] for item in pipeline("items", "list", "--pool", long_ago, "--archived")["items"]] == ["withdrawn"]
