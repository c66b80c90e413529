"""The gate before every commit: checks a selection and its certificate from the problem alone, and trusts no solver.

What it proves: the selection breaks no constraint, its value is what the certificate says, and the prices certify `price_bound` by
weak duality, in exact integers. What it cannot prove are the certificate's `claims` (searches of named solvers): it checks that they
are well-formed, that the selection itself does not refute them, and that `upper_bound` follows from claims and prices together.
`claimed` says how many points of the bound rest on them. It shares no code with the solvers, on purpose: keep it so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline_project.core.packing import Int64, PackingProblem
from pipeline_project.core.selection import Certificate, Selection

Bools = NDArray[np.bool_]


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
    """Everything that is wrong with it; empty = sound. O(k)."""
    malformed = _malformed(problem, selection)
    if malformed:  # the numbers below would mean nothing
        return malformed
    return _overdrawn(problem, selection.chosen) + _wrong_value(problem, selection) + _unjustified_bound(problem, selection)


def dual_bound(problem: PackingProblem, prices: Int64, scale: int, among: Bools | None = None) -> int:
    """What prices in 1/scale points certify about the candidates in `among` (default all): none of their selections is worth more.

    Weak duality: what a selection takes of each resource is at most its capacity, so charging it for what it takes and
    adding the charge for all there is loses nothing. A candidate that alone demands more than there is counts as nothing.
    """
    owner = problem.candidates()
    counted = np.ones(problem.n, np.bool_) if among is None else among.copy()
    counted[owner[problem.quantities > problem.capacities[problem.resources]]] = False
    touched = np.zeros(problem.m, np.bool_)
    touched[problem.resources[counted[owner]]] = True
    charged = _dot(problem.capacities[touched], prices[touched])
    left = _scaled_weights_less_charges(problem, owner, prices, scale)[counted]
    return (charged + _total(left[left > 0])) // scale


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
    rows = is_chosen[problem.candidates()]
    used = np.zeros(problem.m, np.int64)
    np.add.at(used, problem.resources[rows], problem.quantities[rows])  # all demands together fit int64: checked at the problem's birth
    over = np.flatnonzero(used > problem.capacities)
    return [
        Violation(rule="capacity", subject=f"resource {r}", expected=f"at most {problem.capacities[r]}", found=str(used[r])) for r in over
    ]


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
    by_prices = dual_bound(problem, prices, scale)
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
        justified = min(by_prices, with_claims + dual_bound(problem, prices, scale, among=rest))
    if certificate.upper_bound < justified:
        found.append(
            Violation(rule="upper_bound", subject="prices and claims", expected=f">= {justified}", found=str(certificate.upper_bound))
        )
    return found


def _scaled_weights_less_charges(problem: PackingProblem, owner: Int64, prices: Int64, scale: int) -> NDArray[Any]:
    # Python integers (dtype object) where int64 might not hold a sum; slow, but exact, and only for astronomical numbers.
    longest = int(np.diff(problem.indptr).max(initial=0))
    charge = int(prices.max(initial=0)) * int(problem.quantities.max(initial=0)) * longest
    exact = np.int64 if charge + int(problem.weights.max(initial=0)) * scale < 2**63 else object
    left = problem.weights.astype(exact) * scale
    np.subtract.at(left, owner, prices[problem.resources].astype(exact) * problem.quantities.astype(exact))
    return left


def _dot(a: Int64, b: Int64) -> int:
    if float(np.dot(a.astype(np.float64), b.astype(np.float64))) < 2.0**62:
        return int(np.dot(a, b))
    return sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))


def _total(values: NDArray[Any]) -> int:
    if values.dtype == np.int64 and float(values.sum(dtype=np.float64)) < 2.0**62:
        return int(values.sum())
    return sum(int(v) for v in values.tolist())
