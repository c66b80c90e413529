"""The verifier finds what is wrong with a selection, and nothing wrong with a sound one; it believes only what it can recompute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from pipeline_project.core.packing import INT64_MAX, PackingProblem
from pipeline_project.core.selection import MEMBERS_MAX, NO_CUTS, Certificate, Claim, Cuts, Selection
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


# ---- cuts

# Two of 2 and one of 3 in a capacity of 4: no row says yet that the 3 excludes both others.
TIGHT = PackingProblem.from_triples(column(10, 10, 14), column(0, 1, 2), column(0, 0, 0), column(2, 2, 3), column(4))
# A triangle given by its three edges: half of everyone costs no edge anything.
TRIANGLE = PackingProblem.from_triples(
    column(10, 10, 10), column(0, 1, 1, 2, 0, 2), column(0, 0, 1, 1, 2, 2), column(1, 1, 1, 1, 1, 1), column(1, 1, 1)
)


def rounded(resource: int, numerator: int, denominator: int, price: int, *complemented: int) -> Cuts:
    return replace(
        NO_CUTS,
        resource=column(resource),
        numerator=column(numerator),
        denominator=column(denominator),
        price=column(price),
        complemented_starts=column(0, len(complemented)),
        complemented=column(*complemented),
    )


def clique(price: int, *members: int) -> Cuts:
    return replace(NO_CUTS, clique_starts=column(0, len(members)), members=column(*members), clique_price=column(price))


def test_a_rounded_row_tightens_the_bound() -> None:
    # 2/3 of the row is 4/3, 4/3, 2 in 8/3: rounded, 1, 1, 2 in 2.
    assert dual_bound(TIGHT, column(0), 1, cuts=rounded(0, 2, 3, 10)) == 20
    assert dual_bound(TIGHT, column(5), 1) == 20
    weighted = replace(TIGHT, weights=column(10, 10, 16))
    assert dual_bound(weighted, column(5), 1) == 21
    assert dual_bound(weighted, column(0), 1, cuts=rounded(0, 2, 3, 10)) == 20


def test_a_complemented_row_is_a_cover() -> None:
    # 3 + 3 + 2 in 7: one must stay away. In absences, -3, -3, -2 in -1; a quarter of it, rounded, is -1, -1, -1 in -1.
    problem = PackingProblem.from_triples(column(9, 9, 9), column(0, 1, 2), column(0, 0, 0), column(3, 3, 2), column(7))
    assert dual_bound(problem, column(0), 1, cuts=rounded(0, 1, 4, 9, 0, 1, 2)) == 18


def test_a_clique_tightens_the_bound_and_counts_only_where_it_is_touched() -> None:
    assert dual_bound(TRIANGLE, column(0, 0, 0), 1, cuts=clique(10, 0, 1, 2)) == 10
    nobody = np.zeros(3, np.bool_)
    assert dual_bound(TRIANGLE, column(0, 0, 0), 1, nobody, clique(10, 0, 1, 2)) == 0
    selection = Selection(
        chosen=column(1),
        certificate=replace(
            SOUND.certificate, value=10, upper_bound=10, price_bound=10, prices=column(0, 0, 0), cuts=clique(1000, 0, 1, 2)
        ),
    )
    assert verify(TRIANGLE, selection) == []


@pytest.mark.parametrize("seed", range(20))
def test_every_feasible_selection_keeps_every_rounded_row(seed: int) -> None:
    """Priced by itself, a row bounds what it bounds: with the row's own amounts as weights, no selection is worth more than the bound."""
    rng = np.random.default_rng(seed)
    quantities, capacity = rng.integers(1, 12, 8), int(rng.integers(3, 40))
    feasible = [flags for flags in product((False, True), repeat=8) if quantities[list(flags)].sum() <= capacity]
    for _ in range(50):
        denominator = int(rng.integers(2, 20))
        cut = rounded(0, int(rng.integers(1, denominator)), denominator, 1, *np.flatnonzero(rng.random(8) < 0.5).tolist())
        weights = rng.integers(0, 60, 8)
        problem = PackingProblem.from_triples(weights, np.arange(8), np.zeros(8, np.int64), quantities, column(capacity))
        best = max(int(weights[list(flags)].sum()) for flags in feasible)
        for price in (1, 3, 10):
            assert dual_bound(problem, column(0), 1, cuts=replace(cut, price=column(price))) >= best


def test_cuts_beyond_int64_are_exact() -> None:
    huge = 2**61
    problem = PackingProblem.from_triples(column(huge, 1), column(0, 1), column(0, 0), column(huge, huge + 1), column(huge + 1))
    assert dual_bound(problem, column(0), 1, cuts=rounded(0, 2**61 - 1, 2**61, huge)) >= huge


@pytest.mark.parametrize(
    ("problem", "cuts", "sentence"),
    [
        (TIGHT, rounded(0, 3, 3, 1), "cuts: numerator: expected more than 0, less than the denominator"),
        (TIGHT, rounded(0, 0, 3, 1), "cuts: numerator: expected more than 0, less than the denominator"),
        (TIGHT, rounded(1, 2, 3, 1), "cuts: resource: expected 0..0"),
        (TIGHT, rounded(0, 2, 3, -1), "cuts: price: expected >= 0"),
        (TIGHT, rounded(0, 2, 3, 1, 2, 1), "cuts: complemented: expected candidates in 0..2, ascending in each row"),
        (TIGHT, rounded(0, 2, 3, 1, 3), "cuts: complemented: expected candidates in 0..2, ascending in each row"),
        (PROBLEM, rounded(1, 2, 3, 1, 0), "cuts: complemented: expected candidates that demand the resource"),
        (TIGHT, replace(NO_CUTS, price=column(1)), "cuts: resource: expected int64, as many as there are rows"),
        (TIGHT, replace(clique(1, 0, 2), clique_starts=column(0, 3)), "cuts: members: expected starts that divide it"),
        (TIGHT, clique(1, 0, 0), "cuts: members: expected candidates in 0..2, ascending in each row"),
        (TIGHT, clique(-1, 0, 2), "cuts: price: expected >= 0"),
        (TIGHT, clique(1, 0, 1, 2), "cuts: clique: candidates 0 and 1: expected a resource too small for both"),
    ],
)
def test_a_row_that_does_not_follow_is_named(problem: PackingProblem, cuts: Cuts, sentence: str) -> None:
    free = np.zeros(problem.m, np.int64)
    everything = int(problem.weights.sum())
    certificate = replace(SOUND.certificate, value=0, upper_bound=everything, price_bound=None, prices=free, cuts=cuts)
    found = [str(violation) for violation in verify(problem, Selection(chosen=column(), certificate=certificate))]
    assert any(line.startswith(sentence) for line in found), found


def test_a_clique_has_a_limit() -> None:
    n = MEMBERS_MAX + 1
    problem = PackingProblem.from_triples(np.ones(n, np.int64), np.arange(n), np.zeros(n, np.int64), np.ones(n, np.int64), column(1))
    certificate = replace(SOUND.certificate, value=0, upper_bound=n, price_bound=None, prices=column(0))
    for members, wrong in ((n, ["cuts"]), (n - 1, [])):
        selection = Selection(chosen=column(), certificate=replace(certificate, cuts=clique(1, *range(members))))
        assert [violation.rule for violation in verify(problem, selection)] == wrong


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
    cuts = _random_cuts(rng, problem)
    bound = dual_bound(problem, prices, 10_000, cuts=cuts)
    numbers = np.sort(np.array(chosen, np.int64))
    value = int(problem.weights[numbers].sum())
    certificate = Certificate(
        value=value,
        upper_bound=bound,
        prices=prices,
        price_scale=10_000,
        seed=0,
        steps=1,
        reproducible=True,
        price_bound=bound,
        cuts=cuts,
    )
    return problem, Selection(chosen=numbers, certificate=certificate)


def _random_cuts(rng: np.random.Generator, problem: PackingProblem) -> Cuts:
    """Five rounded rows, with complements, and as many cliques as five seeds give."""
    owner = problem.candidates()
    resources = np.sort(rng.choice(12, 5, replace=False))
    denominators = rng.integers(3, 9, 5)
    complements = [owner[(problem.resources == r) & (rng.random(len(owner)) < 0.4)] for r in resources]
    cliques = [members for members in (_random_clique(rng, problem) for _ in range(5)) if len(members) > 2]
    return Cuts(
        resource=resources,
        numerator=rng.integers(1, denominators),
        denominator=denominators,
        price=rng.integers(20_000, 90_000, 5),
        complemented_starts=np.cumsum([0, *map(len, complements)]),
        complemented=np.concatenate(complements),
        clique_starts=np.cumsum([0, *map(len, cliques)]),
        members=np.concatenate([column(), *cliques]),
        clique_price=rng.integers(20_000, 90_000, len(cliques)),
    )


def _conflict(problem: PackingProblem, a: int, b: int) -> bool:
    demands = [np.zeros(problem.m, np.int64) for _ in range(2)]
    for c, demand in zip((a, b), demands, strict=True):
        demand[problem.resources[problem.indptr[c] : problem.indptr[c + 1]]] = problem.quantities[problem.indptr[c] : problem.indptr[c + 1]]
    return bool(((demands[0] > 0) & (demands[1] > 0) & (demands[0] + demands[1] > problem.capacities)).any())


def _random_clique(rng: np.random.Generator, problem: PackingProblem) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    members: list[int] = []
    for c in rng.permutation(problem.n).tolist():
        if all(_conflict(problem, c, other) for other in members):
            members.append(c)
    return np.sort(np.array(members, np.int64))


def _with_cuts(s: Selection, **changes: object) -> Selection:
    return replace(s, certificate=replace(s.certificate, cuts=replace(s.certificate.cuts, **changes)))  # type: ignore[arg-type]


def _raise_the_cuts_prices(rng: np.random.Generator, s: Selection) -> Selection:
    """By so much that what they charge for capacity is never made up for by what the candidates then lose."""
    return _with_cuts(s, price=s.certificate.cuts.price + int(rng.integers(10**9, 10**10)))


def _lower_every_cuts_price(rng: np.random.Generator, s: Selection) -> Selection:
    return _with_cuts(s, price=-s.certificate.cuts.price)


def _misround(rng: np.random.Generator, s: Selection) -> Selection:
    """A multiplier that is no proper fraction."""
    numerators, at = s.certificate.cuts.numerator.copy(), int(rng.integers(5))
    numerators[at] = s.certificate.cuts.denominator[at] + int(rng.integers(0, 9)) if rng.random() < 0.5 else -int(rng.integers(0, 9))
    return _with_cuts(s, numerator=numerators)


def _move_a_row(rng: np.random.Generator, s: Selection) -> Selection:
    resources = s.certificate.cuts.resource.copy()
    resources[rng.integers(5)] += 12 * int(rng.choice([-1, 1]))
    return _with_cuts(s, resource=resources)


def _complement_a_stranger(rng: np.random.Generator, s: Selection) -> Selection:
    """Somebody who does not exist."""
    starts = s.certificate.cuts.complemented_starts.copy()
    starts[-1] += 1
    return _with_cuts(s, complemented_starts=starts, complemented=np.append(s.certificate.cuts.complemented, 40))


def _cut_a_list_short(rng: np.random.Generator, s: Selection) -> Selection:
    starts = s.certificate.cuts.clique_starts.copy()
    starts[-1] += int(rng.choice([-1, 1]))
    return _with_cuts(s, clique_starts=starts)


def _invent_a_clique(rng: np.random.Generator, s: Selection) -> Selection:
    """Two of the chosen ones, who evidently get on with each other, in a clique that costs nothing."""
    cuts = s.certificate.cuts
    pair = np.sort(rng.choice(s.chosen, 2, replace=False))
    return _with_cuts(
        s,
        clique_starts=np.append(cuts.clique_starts, cuts.clique_starts[-1] + 2),
        members=np.append(cuts.members, pair),
        clique_price=np.append(cuts.clique_price, 0),
    )


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
    _raise_the_cuts_prices,
    _lower_every_cuts_price,
    _misround,
    _move_a_row,
    _complement_a_stranger,
    _cut_a_list_short,
    _invent_a_clique,
]


def test_a_thousand_of_a_thousand_random_corruptions_are_rejected() -> None:
    rng = np.random.default_rng(20_130_711)
    for i in range(1000):
        problem, sound = _random_sound(rng)
        assert verify(problem, sound) == []
        corrupt = CORRUPTIONS[i % len(CORRUPTIONS)]
        assert verify(problem, corrupt(rng, sound)) != [], corrupt.__name__
