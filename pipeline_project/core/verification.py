"""The gate before every commit: checks a selection and its certificate from the problem alone, and trusts no solver.

What it proves: the selection breaks no constraint, its value is what the certificate says, every cut is a row that all feasible
selections keep, and prices and cuts certify `price_bound` by weak duality, in exact integers. What it cannot prove are the
certificate's `claims` (searches of named solvers): it checks that they are well-formed, that the selection itself does not refute
them, and that `upper_bound` follows from claims and prices together. `claimed` says how many points of the bound rest on them.
It shares no code with the solvers, on purpose: keep it so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline_project.core.exact_sums import SURE, Whole, dot, total
from pipeline_project.core.packing import Bools, Int64, PackingProblem
from pipeline_project.core.selection import MEMBERS_MAX, NO_CUTS, Certificate, Cuts, Selection


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One thing that is wrong: which rule, where, what it asks for and what was found."""

    rule: str
    subject: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.subject}: expected {self.expected}, found {self.found}"


def verify(problem: PackingProblem, selection: Selection) -> list[Violation]:
    """Everything that is wrong with it; empty = sound. O(k), and the pairs in cliques."""
    malformed = _malformed(problem, selection)
    if malformed:  # the numbers below would mean nothing
        return malformed
    cuts = selection.certificate.cuts
    false = _wrong_value(problem, selection) + (_no_cliques(problem, cuts) if len(cuts.members) else [])
    return _overdrawn(problem, selection.chosen) + false + _unjustified_bound(problem, selection)


def dual_bound(problem: PackingProblem, prices: Int64, scale: int, among: Bools | None = None, cuts: Cuts = NO_CUTS) -> int:
    """What prices in 1/scale points certify about the candidates in `among` (default all): none of their selections is worth more.

    Weak duality: what a selection takes of each row is at most its capacity, so charging it for what it takes and
    adding the charge for all there is loses nothing. A candidate that alone demands more than there is counts as nothing.
    """
    counted = np.ones(problem.n, np.bool_) if among is None else among.copy()
    if problem.quantities.max(initial=1) > problem.capacities.min(initial=1):
        counted[problem.candidates()[problem.quantities > problem.capacities[problem.resources]]] = False
    demanded = problem.resources if counted.all() else problem.resources[np.repeat(counted, np.diff(problem.indptr))]
    charged, left = _charged(problem.capacities, prices, demanded), _scaled_weights_less_charges(problem, prices, scale)
    for rows in (_rounded_rows(problem, cuts), _clique_rows(cuts)) if len(cuts) else ():
        charged += _charged(rows.capacity, rows.price, rows.row[counted[rows.owner]])
        left = _less_charges(left, rows)
    left = left[counted]
    return (charged + total(left[left > 0])) // scale


def claimed(certificate: Certificate) -> int:
    """How many points of the upper bound rest on claims that only a search has proven; 0 = prices prove all of it."""
    return 0 if certificate.price_bound is None else certificate.price_bound - certificate.upper_bound


def _malformed(problem: PackingProblem, selection: Selection) -> list[Violation]:
    chosen, certificate = selection.chosen, selection.certificate
    found = _not_candidates(problem, "chosen", chosen)
    if certificate.prices.shape != (problem.m,) or certificate.prices.dtype.kind != "i":
        shape = f"{certificate.prices.dtype}{list(certificate.prices.shape)}"
        found.append(Violation(rule="prices", subject="shape", expected=f"int64[{problem.m}]", found=shape))
    elif (certificate.prices < 0).any():
        at = int(np.argmax(certificate.prices < 0))
        found.append(Violation(rule="prices", subject=f"resource {at}", expected=">= 0", found=str(certificate.prices[at])))
    if certificate.price_scale < 1:
        found.append(Violation(rule="prices", subject="price_scale", expected=">= 1", found=str(certificate.price_scale)))
    found += _malformed_cuts(problem, certificate.cuts)
    taken = np.zeros(problem.n, np.int64)
    for claim in certificate.claims:
        wrong = _not_candidates(problem, f"claim of {claim.solver}", claim.candidates)
        if not wrong:
            taken[claim.candidates] += 1
        found += wrong
    if (taken > 1).any():
        at = int(np.argmax(taken > 1))
        found.append(Violation(rule="claims", subject=f"candidate {at}", expected="at most one claim", found=str(taken[at])))
    return found


def _not_candidates(problem: PackingProblem, rule: str, numbers: Int64) -> list[Violation]:
    if numbers.ndim != 1 or numbers.dtype.kind != "i":
        return [Violation(rule=rule, subject="shape", expected="a column of integers", found=f"{numbers.dtype}{list(numbers.shape)}")]
    if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < problem.n:
        span = f"{numbers.min()}..{numbers.max()}"
        return [Violation(rule=rule, subject="range", expected=f"candidates in 0..{problem.n - 1}", found=span)]
    unordered = np.flatnonzero(numbers[1:] <= numbers[:-1])
    if len(unordered):
        at = int(unordered[0])
        return [Violation(rule=rule, subject=f"position {at + 1}", expected=f"more than {numbers[at]}", found=str(numbers[at + 1]))]
    return []


def _overdrawn(problem: PackingProblem, chosen: Int64) -> list[Violation]:
    is_chosen = np.zeros(problem.n, np.bool_)
    is_chosen[chosen] = True
    rows = np.repeat(is_chosen, np.diff(problem.indptr))
    used = np.zeros(problem.m, np.int64)
    np.add.at(used, problem.resources[rows], problem.quantities[rows])  # all demands together fit int64: checked at the problem's birth
    found = []
    for r in np.flatnonzero(used > problem.capacities):
        found.append(Violation(rule="capacity", subject=f"resource {r}", expected=f"at most {problem.capacities[r]}", found=str(used[r])))
    return found


def _wrong_value(problem: PackingProblem, selection: Selection) -> list[Violation]:
    value, certificate = int(problem.weights[selection.chosen].sum()), selection.certificate
    found = []
    if certificate.value != value:
        found.append(Violation(rule="value", subject="certificate", expected=str(value), found=str(certificate.value)))
    if certificate.upper_bound < value:
        found.append(Violation(rule="upper_bound", subject="certificate", expected=f">= value {value}", found=str(certificate.upper_bound)))
    return found


def _unjustified_bound(problem: PackingProblem, selection: Selection) -> list[Violation]:
    certificate = selection.certificate
    prices, scale = certificate.prices, certificate.price_scale
    by_prices = dual_bound(problem, prices, scale, cuts=certificate.cuts)
    found = []
    if certificate.price_bound is not None and certificate.price_bound != by_prices:
        found.append(Violation(rule="price_bound", subject="prices", expected=str(by_prices), found=str(certificate.price_bound)))
    rest, with_claims = np.ones(problem.n, np.bool_), 0
    for claim in certificate.claims:
        rest[claim.candidates] = False
        with_claims += claim.bound
        inside = selection.chosen[np.isin(selection.chosen, claim.candidates, assume_unique=True)]
        refuted_by = int(problem.weights[inside].sum())
        if claim.bound < refuted_by:
            found.append(
                Violation(rule="claims", subject=claim.solver, expected=f">= its part of the value {refuted_by}", found=str(claim.bound))
            )
    justified = by_prices
    if certificate.claims:
        justified = min(by_prices, with_claims + dual_bound(problem, prices, scale, rest, certificate.cuts))
    if certificate.upper_bound < justified:
        found.append(
            Violation(rule="upper_bound", subject="prices and claims", expected=f">= {justified}", found=str(certificate.upper_bound))
        )
    return found


# ---- cuts: rows that follow from the problem, written out again from what the certificate says of them


@dataclass(frozen=True, slots=True)
class _Rows:
    """owner, row, amount: what each candidate takes of which row; capacity, price: of each row."""

    owner: Int64
    row: NDArray[np.signedinteger]
    amount: Whole
    capacity: Whole
    price: Int64


def _clique_rows(cuts: Cuts) -> _Rows:
    row = np.repeat(np.arange(len(cuts.clique_price)), np.diff(cuts.clique_starts))
    return _Rows(cuts.members, row, np.ones_like(cuts.members), np.ones_like(cuts.clique_price), cuts.clique_price)


def _rounded_rows(problem: PackingProblem, cuts: Cuts) -> _Rows:
    """With d = denominator, b = numerator x capacity and f = b mod d, G(t) = (t div d) (d - f) + max(0, t mod d - f) never falls and
    G(s) + G(t) <= G(s + t), so whole x >= 0 with sum(a x) <= b have sum(G(a) x) <= G(b). Of a complemented candidate, 1 - x is such an x.
    """
    cut, owner, quantity = _holders(problem, cuts.resource)
    absent = np.isin(cut * problem.n + owner, _complemented(problem, cuts))
    largest = int(problem.capacities.max(initial=0)) + int(problem.quantities.sum()) + len(problem.quantities) + 1
    exact = np.int64 if largest * int(cuts.denominator.max(initial=1)) < SURE else object
    denominator, rest = cuts.denominator.astype(exact), problem.capacities[cuts.resource].astype(exact)
    np.subtract.at(rest, cut[absent], quantity[absent].astype(exact))
    rest = rest * cuts.numerator
    kept = rest % denominator
    sign = np.where(absent, -1, 1)
    share = sign * quantity.astype(exact) * cuts.numerator[cut]
    amount = sign * (share // denominator[cut] * (denominator - kept)[cut] + np.maximum(0, share % denominator[cut] - kept[cut]))
    capacity = rest // denominator * (denominator - kept)
    np.add.at(capacity, cut[absent], amount[absent])
    return _Rows(owner[amount > 0], cut[amount > 0], amount[amount > 0], capacity, cuts.price)


def _holders(problem: PackingProblem, resources: Int64) -> tuple[Int64, Int64, Int64]:
    """Who demands each of these resources, and how much: position in `resources`, candidate, quantity."""
    order = np.flatnonzero(np.isin(problem.resources, resources))
    order = order[np.argsort(problem.resources[order], kind="stable")]
    begin, end = (np.searchsorted(problem.resources[order], resources, side) for side in ("left", "right"))
    position = np.repeat(np.arange(len(resources)), end - begin)
    rows = order[np.arange(len(position)) + (begin - np.cumsum(end - begin) + (end - begin))[position]]
    return position, problem.candidates()[rows], problem.quantities[rows]


def _complemented(problem: PackingProblem, cuts: Cuts) -> Int64:
    return np.repeat(np.arange(len(cuts.resource)), np.diff(cuts.complemented_starts)) * problem.n + cuts.complemented


def _malformed_cuts(problem: PackingProblem, cuts: Cuts) -> list[Violation]:
    def check(sound: bool | np.bool_, subject: str, expected: str) -> list[Violation]:
        return [] if sound else [Violation(rule="cuts", subject=subject, expected=expected, found="something else")]

    a, b = len(cuts.price), len(cuts.clique_price)
    lengths = {"resource": a, "numerator": a, "denominator": a, "price": a, "complemented_starts": a + 1, "clique_starts": b + 1}
    for name in cuts.__slots__:
        column = getattr(cuts, name)
        if column.ndim != 1 or column.dtype != np.int64 or len(column) != lengths.get(name, len(column)):
            return check(False, name, "int64, as many as there are rows")
    for name, first in (("complemented", "complemented_starts"), ("members", "clique_starts")):
        numbers, starts = getattr(cuts, name), getattr(cuts, first)
        if starts[0] != 0 or starts[-1] != len(numbers) or (np.diff(starts) < 0).any():
            return check(False, name, "starts that divide it")
        row = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        if not (((np.diff(numbers) > 0) | (np.diff(row) > 0)).all() and ((numbers >= 0) & (numbers < problem.n)).all()):
            return check(False, name, f"candidates in 0..{problem.n - 1}, ascending in each row")
    if not len(cuts):
        return []
    if not ((cuts.resource >= 0) & (cuts.resource < problem.m)).all():
        return check(False, "resource", f"0..{problem.m - 1}")
    cut, owner, _ = _holders(problem, cuts.resource)
    return (
        check(((cuts.numerator > 0) & (cuts.numerator < cuts.denominator)).all(), "numerator", "more than 0, less than the denominator")
        + check((cuts.price >= 0).all() and (cuts.clique_price >= 0).all(), "price", ">= 0")
        + check(np.isin(_complemented(problem, cuts), cut * problem.n + owner).all(), "complemented", "candidates that demand the resource")
        + check((np.diff(cuts.clique_starts) <= MEMBERS_MAX).all(), "members", f"at most {MEMBERS_MAX} in a clique")
    )


def _no_cliques(problem: PackingProblem, cuts: Cuts) -> list[Violation]:
    """Some cliques at a time: all their pairs are looked for among all pairs that overdraw a resource."""
    owner, resources, quantities = problem.candidates(), problem.resources, problem.quantities
    most = np.zeros(problem.m, np.int64)
    np.maximum.at(most, resources, quantities)
    rows = np.flatnonzero(quantities > problem.capacities[resources] - most[resources])
    rows = rows[np.argsort(resources[rows], kind="stable")]
    starts, low, found = cuts.clique_starts, 0, []
    while low < len(starts) - 1:
        high = max(low + 1, int(np.searchsorted(starts, starts[low] + MEMBERS_MAX, "right")) - 1)
        members = cuts.members[starts[low] : starts[high]]
        one, other = _pairs(np.repeat(np.arange(low, high), np.diff(starts[low : high + 1])))
        involved = np.zeros(problem.n, np.bool_)
        involved[members] = True
        near = rows[involved[owner[rows]]]
        i, j = (near[side] for side in _pairs(resources[near]))
        over = quantities[i] > problem.capacities[resources[i]] - quantities[j]
        number = np.cumsum(involved) - 1
        conflict = np.zeros((number[-1] + 1, number[-1] + 1), np.bool_)
        conflict[number[owner[i[over]]], number[owner[j[over]]]] = True
        proven = conflict[number[members[one]], number[members[other]]]
        for at in np.flatnonzero(~proven)[:1]:
            pair = f"clique: candidates {members[one[at]]} and {members[other[at]]}"
            found.append(Violation(rule="cuts", subject=pair, expected="a resource too small for both", found="none"))
        low = high
    return found


def _pairs(group: NDArray[np.signedinteger]) -> tuple[Int64, Int64]:
    """Positions of all pairs of neighbours in the same group; groups stand together."""
    last = np.searchsorted(group, group, "right") - 1
    later = last - np.arange(len(group))
    first = np.repeat(np.arange(len(group)), later)
    return first, np.arange(len(first)) - np.repeat(np.cumsum(later) - later, later) + first + 1


def _charged(capacity: Whole, price: Int64, demanded: NDArray[np.signedinteger]) -> int:
    """For all there is of each row that is demanded, once or often."""
    touched = np.zeros(len(price), np.bool_)
    touched[demanded] = True
    return dot(capacity[touched], price[touched])


def _scaled_weights_less_charges(problem: PackingProblem, prices: Int64, scale: int) -> Whole:
    some, largest = np.flatnonzero(np.diff(problem.indptr)), int(problem.weights.max(initial=0)) * scale
    begin = problem.indptr[some]
    # The largest sizes alone mostly say that int64 holds every charge; where they do not, charges are estimated one by one.
    charge = float(np.diff(problem.indptr).max(initial=0)) * float(problem.quantities.max(initial=0)) * (float(prices.max(initial=0)) + 1)
    if charge + largest >= SURE and len(some):
        charge = float(np.add.reduceat(problem.quantities * np.maximum(prices, 1.0)[problem.resources], begin).max())
    left = problem.weights.astype(np.int64 if charge + largest < SURE else object) * scale
    costs = prices.astype(left.dtype)[problem.resources]
    costs = costs if problem.quantities.max(initial=1) == 1 else costs * problem.quantities
    left[some] -= np.add.reduceat(costs, begin) if len(some) else 0
    return left


def _less_charges(left: Whole, rows: _Rows) -> Whole:
    charge = np.bincount(rows.owner, rows.amount.astype(np.float64) * np.maximum(rows.price[rows.row], 1), len(left)).max(initial=0.0)
    left = left.astype(np.int64 if charge + float(np.abs(left).max(initial=0)) < SURE else object)
    np.subtract.at(left, rows.owner, rows.price[rows.row].astype(left.dtype) * rows.amount.astype(left.dtype))
    return left
