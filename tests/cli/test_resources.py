"""`pipeline resources`: imported, listed, given another capacity."""

from __future__ import annotations

from tests.cli.conftest import CommandLine, Submit


def test_an_import_tells_what_became_of_each_row(pipeline: CommandLine, pool: str) -> None:
    file = pipeline.file("r.csv", "key,capacity,kind\ngpu,5,\ntape,9,consumable\nbad,-1,\nworse,1,rented\n")
    receipt = pipeline("resources", "import", file, "--pool", pool, exits=5)
    assert (receipt["accepted"], receipt["revised"], receipt["unchanged"]) == (1, 1, 0)
    assert [(row["line"], row["field"], row["item"]) for row in receipt["refused"]] == [(4, "capacity", "bad"), (5, "kind", "worse")]
    assert pipeline("resources", "list", "--pool", pool)["resources"] == [
        {"pool": "p", "key": "gpu", "capacity": 5, "in_use": 0, "spent": 0, "kind": "renewable"},
        {"pool": "p", "key": "tape", "capacity": 9, "in_use": 0, "spent": 0, "kind": "consumable"},
    ]


def test_without_a_pool_all_resources_are_listed(pipeline: CommandLine, pool: str) -> None:
    pipeline("pools", "create", "q")
    pipeline("resources", "import", pipeline.file("r.csv", "key,capacity\ngpu,1\n"), "--pool", "q")
    assert [(row["pool"], row["key"]) for row in pipeline("resources", "list")["resources"]] == [("p", "gpu"), ("q", "gpu")]
    assert "renewable" in pipeline.shown("resources", "list")[0]


def test_below_what_is_in_use_a_capacity_needs_release(pipeline: CommandLine, submit: Submit, pool: str) -> None:
    submit(a=3, b=2, c=1)
    pipeline("cycle", "run", "--pool", pool)
    refused = pipeline("resources", "set-capacity", "gpu", "1", "--pool", pool, exits=5)["error"]["message"]
    assert "expected a capacity of at least 3 (in use 3, spent 0), found 1" in refused
    assert pipeline("resources", "set-capacity", "gpu", "1", "--pool", pool, "--release") == {
        "pool": "p",
        "key": "gpu",
        "capacity": 1,
        "released": 2,
    }
    assert pipeline("items", "list", "--pool", pool)["by_state"] == {"pending": 2, "selected": 1}


def test_an_unknown_resource_is_refused(pipeline: CommandLine, pool: str) -> None:
    assert (
        "resource 'cpu': pool p has none" in pipeline("resources", "set-capacity", "cpu", "1", "--pool", pool, exits=5)["error"]["message"]
    )


def test_a_capacity_is_a_whole_number_that_fits(pipeline: CommandLine, pool: str) -> None:
    for wrong in ("1.5", "nan", str(2**63)):
        assert pipeline("resources", "set-capacity", "gpu", wrong, "--pool", pool, exits=2)["error"]["kind"] == "UsageError"
