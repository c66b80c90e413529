"""The verifier finds what is wrong with a selection, and nothing wrong with a sound one; it believes only what it can recompute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from pipeline_project.core.packing import INT64_MAX, PackingProblem
from pipeline_project.core.selection import Certificate, Claim, Selection
from pipeline_project.core.verification import claimed, dual_bound, verify


def column(*values: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(values, np.int64)


# Two places (resource 0) for three candidates, each worth its number of tens; candidate 2 alone also needs resource 1.
PROBLEM = PackingProblem.from_triples(column(10, 20, 30), column(0, 1, 2, 2), column(0, 0, 0, 1), column(1, 1, 1, 1), column(2, 1))
SOUND = Selection(
    chosen=column(1, 2),
    certificate=Certificate(
        value=50, upper_bound=50, prices=column(1500, 0), price_scale=100, seed=0, steps=1, reproducible=True, price_bound=50
    ),
)


def certified(**changes: object) -> Selection:
    return replace(SOUND, certificate=replace(SOUND.certificate, **changes))  # type: ignore[arg-type]


def test_a_sound_selection_passes() -> None:
    assert verify(PROBLEM, SOUND) == []
    assert claimed(SOUND.certificate) == 0


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (replace(SOUND, chosen=column(0, 1, 2)), "capacity: resource 0: expected at most 2, found 3"),
        (replace(SOUND, chosen=column(1, 1, 2)), "chosen: position 1: expected more than 1, found 1"),
        (replace(SOUND, chosen=column(2, 1)), "chosen: position 1: expected more than 2, found 1"),
        (replace(SOUND, chosen=column(1, 3)), "chosen: range: expected candidates in 0..2, found 1..3"),
        (replace(SOUND, chosen=column(-1, 2)), "chosen: range: expected candidates in 0..2, found -1..2"),
        (replace(SOUND, chosen=np.array([1.0, 2.0])), "chosen: shape: expected a column of integers, found float64[2]"),
        (replace(SOUND, chosen=column(2)), "value: certificate: expected 30, found 50"),
        (certified(value=51), "value: certificate: expected 50, found 51"),
        (certified(upper_bound=49), "upper_bound: certificate: expected >= value 50, found 49"),
        (certified(prices=column(2500, 0)), "price_bound: prices: expected 55, found 50"),
        (certified(prices=column(-1, 0)), "prices: resource 0: expected >= 0, found -1"),
        (certified(prices=column(1500)), "prices: shape: expected int64[2], found int64[1]"),
        (certified(price_scale=0), "prices: price_scale: expected >= 1, found 0"),
        (certified(prices=column(0, 0), price_bound=None), "upper_bound: prices and claims: expected >= 60, found 50"),
    ],
)
def test_each_fault_is_named(broken: Selection, sentence: str) -> None:
    assert sentence in [str(violation) for violation in verify(PROBLEM, broken)]


def test_a_claim_bounds_its_candidates_and_prices_bound_the_rest() -> None:
    claim = Claim(solver="oracle", candidates=column(0, 1), bound=30)
    selection = certified(prices=column(0, 0), upper_bound=60, price_bound=60, claims=(claim,))
    assert verify(PROBLEM, selection) == []
    too_low = certified(prices=column(0, 0), upper_bound=59, price_bound=60, claims=(claim,))
    assert [violation.rule for violation in verify(PROBLEM, too_low)] == ["upper_bound"]


def test_how_much_of_a_bound_is_only_claimed_can_be_told() -> None:
    everything = Claim(solver="oracle", candidates=column(0, 1, 2), bound=50)
    selection = certified(prices=column(0, 0), price_bound=60, claims=(everything,))
    assert verify(PROBLEM, selection) == []
    assert claimed(selection.certificate) == 10


@pytest.mark.parametrize(
    ("claims", "sentence"),
    [
        ((Claim(solver="liar", candidates=column(1, 2), bound=49),), "claims: liar: expected >= its part of the value 50, found 49"),
        ((Claim(solver="liar", candidates=column(5), bound=0),), "claim of liar: range: expected candidates in 0..2, found 5..5"),
        (
            (Claim(solver="a", candidates=column(0, 1), bound=30), Claim(solver="b", candidates=column(1, 2), bound=50)),
            "claims: candidate 1: expected at most one claim, found 2",
        ),
    ],
)
def test_a_refuted_or_malformed_claim_is_named(claims: tuple[Claim, ...], sentence: str) -> None:
    assert sentence in [str(violation) for violation in verify(PROBLEM, certified(claims=claims))]


def test_a_candidate_that_never_fits_costs_the_bound_nothing() -> None:
    problem = PackingProblem.from_triples(column(7, 100), column(0, 1), column(0, 0), column(1, 9), column(1))
    assert dual_bound(problem, column(0), 1) == 7


def test_bounds_beyond_int64_are_exact() -> None:
    huge = 2**62
    problem = PackingProblem.from_triples(column(huge, huge - 1), column(0, 1), column(0, 0), column(2, 3), column(huge))
    assert dual_bound(problem, column(3), 10**9) == (3 * huge + (2 * huge - 1) * 10**9 - 15) // 10**9
    assert dual_bound(problem, column(INT64_MAX), 1) == huge * INT64_MAX


# ---- random corruption: one number of a sound selection changed, so that something it says is false


def _random_sound(rng: np.random.Generator) -> tuple[PackingProblem, Selection]:
    n, m = 40, 12
    problem = PackingProblem.from_triples(
        rng.integers(1, 100, n), np.repeat(np.arange(n), 2), rng.integers(0, m, 2 * n), rng.integers(1, 4, 2 * n), rng.integers(6, 15, m)
    )
    free, chosen = problem.capacities.copy(), []
    for c in rng.permutation(n):
        rows = slice(problem.indptr[c], problem.indptr[c + 1])
        if (problem.quantities[rows] <= free[problem.resources[rows]]).all():
            free[problem.resources[rows]] -= problem.quantities[rows]
            chosen.append(c)
    prices = rng.integers(0, 200_000, m)
    bound = dual_bound(problem, prices, 10_000)
    numbers = np.sort(np.array(chosen, np.int64))
    value = int(problem.weights[numbers].sum())
    certificate = Certificate(
        value=value, upper_bound=bound, prices=prices, price_scale=10_000, seed=0, steps=1, reproducible=True, price_bound=bound
    )
    return problem, Selection(chosen=numbers, certificate=certificate)


def _drop_one(rng: np.random.Generator, s: Selection) -> Selection:
    return replace(s, chosen=np.delete(s.chosen, rng.integers(len(s.chosen))))


def _add_one(rng: np.random.Generator, s: Selection) -> Selection:
    others = np.setdiff1d(np.arange(40), s.chosen)
    return replace(s, chosen=np.sort(np.append(s.chosen, rng.choice(others))))


def _double_one(rng: np.random.Generator, s: Selection) -> Selection:
    return replace(s, chosen=np.sort(np.append(s.chosen, rng.choice(s.chosen))))


def _misstate_value(rng: np.random.Generator, s: Selection) -> Selection:
    return replace(s, certificate=replace(s.certificate, value=s.certificate.value + int(rng.choice([-1, 1])) * int(rng.integers(1, 9))))


def _promise_too_much(rng: np.random.Generator, s: Selection) -> Selection:
    return replace(s, certificate=replace(s.certificate, upper_bound=s.certificate.upper_bound - int(rng.integers(1, 9))))


def _misstate_price_bound(rng: np.random.Generator, s: Selection) -> Selection:
    bound = s.certificate.upper_bound + int(rng.integers(1, 9))
    return replace(s, certificate=replace(s.certificate, price_bound=bound))


def _change_scale(rng: np.random.Generator, s: Selection) -> Selection:
    return replace(s, certificate=replace(s.certificate, price_scale=s.certificate.price_scale * int(rng.integers(2, 9))))


CORRUPTIONS: list[Callable[[np.random.Generator, Selection], Selection]] = [
    _drop_one,
    _add_one,
    _double_one,
    _misstate_value,
    _promise_too_much,
    _misstate_price_bound,
    _change_scale,
]


def test_a_thousand_of_a_thousand_random_corruptions_are_rejected() -> None:
    rng = np.random.default_rng(20_130_711)
    for i in range(1000):
        problem, sound = _random_sound(rng)
        assert verify(problem, sound) == []
        corrupt = CORRUPTIONS[i % len(CORRUPTIONS)]
        assert verify(problem, corrupt(rng, sound)) != [], corrupt.__name__
