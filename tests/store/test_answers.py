"""Answers in files come back as they were; what is no answer is refused with the field, the expected and the found."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline_project.core.changes import Identities
from pipeline_project.core.errors import UsageError
from pipeline_project.core.selection import NO_CUTS, Certificate, Claim, Cuts, Selection
from pipeline_project.store.answers import SavedAnswer, read_answer, write_answer


def column(*values: int) -> Any:
    return np.array(values, np.int64)


CUTS = Cuts(
    resource=column(1, 0),
    numerator=column(1, 2),
    denominator=column(2, 3),
    price=column(11, 12),
    complemented_starts=column(0, 2, 2),
    complemented=column(0, 2),
    clique_starts=column(0, 0, 2),
    members=column(1, 2),
    clique_price=column(0, 5),
)


def answer(cuts: Cuts = CUTS) -> SavedAnswer:
    certificate = Certificate(
        value=2**62,
        upper_bound=2**62 + 3,
        prices=column(2**61, 0),
        price_scale=1000,
        seed=7,
        steps=123,
        reproducible=False,
        solvers={"search": 2, "exact": 1},
        price_bound=2**62 + 4,
        claims=(Claim(solver="exact", candidates=column(1), bound=9),),
        cuts=cuts,
    )
    identities = Identities(candidates=column(-7, 3, 2**62), fingerprints=column(5, 2**63 - 1, 0), resources=column(-(2**63), 900))
    return SavedAnswer(selection=Selection(chosen=column(0, 2), certificate=certificate), identities=identities, left=column(0, 4))


def alike(one: Any, other: Any) -> bool:
    if hasattr(one, "__slots__") and not isinstance(one, int):
        return type(one) is type(other) and all(alike(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.tolist() == other.tolist()
    return bool(one == other)


@pytest.mark.parametrize("cuts", [CUTS, NO_CUTS])
def test_an_answer_comes_back_as_it_was_and_is_written_in_whole(tmp_path: Path, cuts: Cuts) -> None:
    path = tmp_path / "answer.json"
    write_answer(path, answer(cuts))
    assert alike(read_answer(path), answer(cuts))
    assert not alike(read_answer(path), answer(NO_CUTS if cuts is CUTS else CUTS))
    assert [file.name for file in tmp_path.iterdir()] == ["answer.json"]


def test_it_names_everything_by_id(tmp_path: Path) -> None:
    write_answer(tmp_path / "answer.json", answer())
    document = json.loads((tmp_path / "answer.json").read_text())
    assert document["selected"] == [-7, 2**62]
    assert document["rounded_rows"]["resource"] == [900, -(2**63)]
    assert document["rounded_rows"]["complemented"] == [[-7, 2**62], []]
    assert document["cliques"]["members"] == [[], [3, 2**62]]
    assert document["claims"] == [{"solver": "exact", "bound": 9, "candidates": [3]}]


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        (
            "format",
            "pipeline-answer-9",
            r"format: expected 'pipeline-answer-1', an answer that `pipeline solve --save` wrote, found 'pipeline",
        ),
        ("value", 1.5, r"value: expected a whole number within int64, found 1\.5"),
        ("price_scale", 2**70, "price_scale: expected a whole number within int64, found 118"),
        ("price_bound", "high", "price_bound: expected a whole number or null, found 'high'"),
        ("reproducible", 1, "reproducible: expected true or false, found 1"),
        ("selected", [3, -7], "selected: expected each more than the one before, found -7 after 3"),
        ("selected", [4], "selected: expected ids that the file itself lists, found 4"),
        ("selected", 4, "selected: expected a list, found 4"),
        ("selected", [3.0], r"selected: expected whole numbers within int64, found 3\.0"),
        ("selected", [[3], [4, 5]], r"selected: expected whole numbers within int64, found \[3\]"),
        ("candidates", [1], r"candidates: expected an object with candidate, found \[1\]"),
        ("candidates candidate", [3, 3, 4], "candidates: candidate: expected each more than the one before, found 3 after 3"),
        ("candidates candidate", [3, 4, 2**63], "candidates: candidate: expected whole numbers within int64, found 9223372036854775808"),
        ("candidates fingerprint", [5], "candidates: fingerprint: expected 3 numbers, found 1"),
        ("resources price", [True, None], "resources: price: expected whole numbers within int64, found True"),
        ("resources left", [1, 2, 3], "resources: left: expected 2 numbers, found 3"),
        ("rounded_rows resource", [900], "rounded_rows: resource: expected 2 numbers, found 1"),
        ("rounded_rows resource", [900, 1], "rounded_rows: resource: expected ids that the file itself lists, found 1"),
        ("rounded_rows numerator", [1], "rounded_rows: numerator: expected 2 numbers, found 1"),
        ("rounded_rows complemented", [[]], "rounded_rows: complemented: expected 2 lists, found 1"),
        ("cliques members", [[3], 3], r"cliques: members: expected a list of lists, found \[\[3\], 3\]"),
        ("cliques members", [[3], [99]], "cliques: members: expected ids that the file itself lists, found 99"),
        ("claims", [{"solver": 1}], "claims: solver: expected a name, found 1"),
        ("claims", [5], "claims: expected an object with solver, found 5"),
    ],
)
def test_what_is_no_answer_is_refused_with_its_field(tmp_path: Path, place: str, value: Any, sentence: str) -> None:
    path = tmp_path / "answer.json"
    write_answer(path, answer())
    document = json.loads(path.read_text())
    within = document
    *outer, name = place.split()
    for step in outer:
        within = within[step]
    within[name] = value
    path.write_text(json.dumps(document))
    with pytest.raises(UsageError, match=rf"^{path}: {sentence}"):
        read_answer(path)


@pytest.mark.parametrize("name", ["format", "value", "selected", "candidates", "resources", "rounded_rows", "cliques", "claims"])
def test_a_field_that_is_missing_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / "answer.json"
    write_answer(path, answer())
    document = json.loads(path.read_text())
    del document[name]
    path.write_text(json.dumps(document))
    with pytest.raises(UsageError, match=f"expected an object with {name}, found "):
        read_answer(path)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"\xff\xfe", b"[" * 100_000, b'{"format":'])
def test_what_is_no_json_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "answer.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="expected one JSON document, found something else"):
        read_answer(path)


def test_files_that_cannot_be_opened_say_why(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected an answer that `pipeline solve --save` wrote, found No such file"):
        read_answer(tmp_path / "nowhere.json")
    with pytest.raises(UsageError, match="found Is a directory"):
        read_answer(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="folder: expected a file that can be written, found Is a directory"):
        write_answer(tmp_path / "folder", answer())
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
