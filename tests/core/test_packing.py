"""PackingProblem refuses what makes no problem, and equal problems are equal however they were written down."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_project.core.errors import Refused
from pipeline_project.core.packing import INT64_MAX, Int64, PackingProblem


def column(*values: int) -> Int64:
    return np.array(values, np.int64)


def build(
    weights: Int64 | None = None,
    candidate: Int64 | None = None,
    resource: Int64 | None = None,
    quantity: Int64 | None = None,
    capacities: Int64 | None = None,
) -> PackingProblem:
    return PackingProblem.from_triples(
        column(5, 7) if weights is None else weights,
        column(0, 1, 1) if candidate is None else candidate,
        column(0, 0, 1) if resource is None else resource,
        column(1, 2, 3) if quantity is None else quantity,
        column(2, 3) if capacities is None else capacities,
    )


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"weights": column(5, -1)}, "candidate 1: expected weight >= 0, found -1"),
        ({"quantity": column(1, 0, 3)}, "demand 1: expected quantity >= 1, found 0"),
        ({"capacities": column(2, -3)}, "resource 1: expected capacity >= 0, found -3"),
        ({"candidate": column(0, 1, 2)}, "demand 2: expected candidate in 0..1, found 2"),
        ({"resource": column(0, 0, 9)}, "demand 2: expected resource in 0..1, found 9"),
        ({"weights": column(INT64_MAX, 1)}, f"sum of all weights: expected at most {INT64_MAX}"),
        ({"quantity": column(1, INT64_MAX, 3)}, f"sum of all quantities: expected at most {INT64_MAX}"),
    ],
)
def test_a_refusal_names_the_first_offender_and_what_was_expected(wrong: dict[str, Int64], sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        build(**wrong)


def test_sums_up_to_the_last_int64_are_accepted() -> None:
    assert build(weights=column(INT64_MAX - 1, 1)).weights.sum() == INT64_MAX


def test_repeated_pairs_add_up() -> None:
    problem = build(candidate=column(1, 0, 1), resource=column(0, 0, 0), quantity=column(1, 1, 1))
    assert problem.quantities.tolist() == [1, 2]
    assert problem.indptr.tolist() == [0, 1, 2]


@given(st.permutations([(0, 0, 1), (1, 0, 2), (1, 1, 3)]))
def test_the_order_of_the_rows_does_not_matter(rows: list[tuple[int, int, int]]) -> None:
    candidate, resource, quantity = (column(*values) for values in zip(*rows, strict=True))
    assert build(candidate=candidate, resource=resource, quantity=quantity).digest() == build().digest()


@pytest.mark.parametrize("change", [{"weights": column(5, 8)}, {"quantity": column(1, 2, 2)}, {"capacities": column(2, 4)}])
def test_another_problem_has_another_digest(change: dict[str, Int64]) -> None:
    assert build(**change).digest() != build().digest()


def test_a_part_keeps_demands_and_capacities_under_new_numbers() -> None:
    part, resources = build(resource=column(0, 0, 1)).restrict(column(1))
    assert part.weights.tolist() == [7]
    assert part.quantities.tolist() == [2, 3]
    assert part.capacities.tolist() == [2, 3]
    assert resources.tolist() == [0, 1]


def test_a_problem_may_be_empty() -> None:
    nothing = PackingProblem.from_triples(column(), column(), column(), column(), column())
    assert (nothing.n, nothing.m) == (0, 0)
