"""Answers in files: a selection with its whole certificate, by the ids of candidates and resources, for anyone to check and to go on from.

One JSON document, described field by field in docs/selection.md. Ids, not positions, so that it outlives the problem it was made for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

from pipeline_project.core.changes import Identities, positions
from pipeline_project.core.errors import UsageError
from pipeline_project.core.packing import Int64, starts_of
from pipeline_project.core.selection import Certificate, Claim, Cuts, Selection

FORMAT: Final = "pipeline-answer-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedAnswer:
    """A selection, in the numbers of the problem it was made for, and what that problem called them.

    left  int64[m]  what it leaves of each resource
    """

    selection: Selection
    identities: Identities
    left: Int64


def write_answer(path: Path, answer: SavedAnswer) -> None:
    """Renamed into place: a reader never meets half a file. Raises UsageError where nothing can be written."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_text(json.dumps(_document(answer), separators=(",", ":")), encoding="utf-8")
        scratch.replace(path)
    except OSError as failure:
        scratch.unlink(missing_ok=True)
        raise UsageError(f"{path}: expected a file that can be written, found {failure.strerror}") from failure


def read_answer(path: Path) -> SavedAnswer:
    """Raises UsageError for what is no answer, with the field, the expected and the found. Whether it holds, the verifier says."""
    try:
        document = json.loads(path.read_bytes())
    except OSError as failure:
        raise UsageError(f"{path}: expected an answer that `pipeline solve --save` wrote, found {failure.strerror}") from failure
    except (ValueError, RecursionError) as failure:
        raise UsageError(f"{path}: expected one JSON document, found something else: {failure}") from failure
    return _answer(_Fields(document, str(path)))


def _document(answer: SavedAnswer) -> dict[str, Any]:
    certificate, identities, cuts = answer.selection.certificate, answer.identities, answer.selection.certificate.cuts
    candidates, resources = identities.candidates, identities.resources
    return {
        "format": FORMAT,
        "value": certificate.value,
        "upper_bound": certificate.upper_bound,
        "price_bound": certificate.price_bound,
        "price_scale": certificate.price_scale,
        "seed": certificate.seed,
        "steps": certificate.steps,
        "reproducible": certificate.reproducible,
        "solvers": certificate.solvers,
        "selected": candidates[answer.selection.chosen].tolist(),
        "candidates": {"candidate": candidates.tolist(), "fingerprint": identities.fingerprints.tolist()},
        "resources": {"resource": resources.tolist(), "price": certificate.prices.tolist(), "left": answer.left.tolist()},
        "rounded_rows": {
            "resource": resources[cuts.resource].tolist(),
            "numerator": cuts.numerator.tolist(),
            "denominator": cuts.denominator.tolist(),
            "price": cuts.price.tolist(),
            "complemented": _lists(cuts.complemented_starts, candidates[cuts.complemented]),
        },
        "cliques": {"price": cuts.clique_price.tolist(), "members": _lists(cuts.clique_starts, candidates[cuts.members])},
        "claims": [
            {"solver": claim.solver, "bound": claim.bound, "candidates": candidates[claim.candidates].tolist()}
            for claim in certificate.claims
        ],
    }


def _lists(starts: Int64, values: Int64) -> list[list[int]]:
    flat, ends = values.tolist(), starts.tolist()
    return [flat[begin:end] for begin, end in pairwise(ends)]


@dataclass(frozen=True, slots=True)
class _Fields:
    """One JSON object, taken apart field by field; `where` names it in refusals."""

    values: Any
    where: str

    def part(self, name: str) -> _Fields:
        return _Fields(self._one(name), f"{self.where}: {name}")

    def parts(self, name: str) -> list[_Fields]:
        return [_Fields(value, f"{self.where}: {name}") for value in self.one(name, "a list", lambda v: isinstance(v, list))]

    def one(self, name: str, expected: str, holds: Callable[[Any], bool]) -> Any:
        value = self._one(name)
        if not holds(value):
            raise UsageError(f"{self.where}: {name}: expected {expected}, found {value!r:.80}")
        return value

    def whole(self, name: str) -> int:
        return int(self.one(name, "a whole number within int64", _is_whole))

    def column(self, name: str, length: int | None = None) -> Int64:
        """int64[length]"""
        return self._column(name, self.one(name, "a list", lambda v: isinstance(v, list)), length)

    def ids(self, name: str) -> Int64:
        """int64, ascending."""
        column = self.column(name)
        unordered = np.flatnonzero(column[1:] <= column[:-1])
        if len(unordered):
            at = int(unordered[0])
            raise UsageError(f"{self.where}: {name}: expected each more than the one before, found {column[at + 1]} after {column[at]}")
        return column

    def ascending(self, name: str, among: Int64) -> Int64:
        """The same as `numbers`, of ids that ascend."""
        return self._numbers(name, self.ids(name), among)

    def numbers(self, name: str, among: Int64, length: int | None = None) -> Int64:
        """Where among these ids the ids of the column stand."""
        return self._numbers(name, self.column(name, length), among)

    def lists(self, name: str, length: int, among: Int64) -> tuple[Int64, Int64]:
        """(starts, numbers) of a list of lists of ids."""
        lists = self.one(name, "a list of lists", lambda v: isinstance(v, list) and all(isinstance(part, list) for part in v))
        if len(lists) != length:
            raise UsageError(f"{self.where}: {name}: expected {length} lists, found {len(lists)}")
        lengths = np.array([len(part) for part in lists], np.int64)
        return starts_of(lengths), self._numbers(name, self._column(name, list(chain.from_iterable(lists))), among)

    def _numbers(self, name: str, ids: Int64, among: Int64) -> Int64:
        at, there = positions(among, ids)
        if not there.all():
            raise UsageError(f"{self.where}: {name}: expected ids that the file itself lists, found {ids[int(np.argmin(there))]}")
        return at

    def _column(self, name: str, values: Iterable[Any], length: int | None = None) -> Int64:
        try:
            column = np.array(values)
        except ValueError:  # lists of unequal lengths
            column = np.array([None])
        if not (column.ndim == 1 and (column.dtype == np.int64 or not len(column))):
            wrong = next((v for v in values if not _is_whole(v)), None)
            raise UsageError(f"{self.where}: {name}: expected whole numbers within int64, found {wrong!r:.80}")
        if length is not None and len(column) != length:
            raise UsageError(f"{self.where}: {name}: expected {length} numbers, found {len(column)}")
        return column.astype(np.int64)

    def _one(self, name: str) -> Any:
        if not isinstance(self.values, dict) or name not in self.values:
            found = ", ".join(self.values) if isinstance(self.values, dict) else repr(self.values)
            raise UsageError(f"{self.where}: expected an object with {name}, found {found:.80}")
        return self.values[name]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _answer(fields: _Fields) -> SavedAnswer:
    fields.one("format", f"{FORMAT!r}, an answer that `pipeline solve --save` wrote", lambda value: value == FORMAT)
    about, rows = fields.part("candidates"), fields.part("resources")
    candidates, resources = about.ids("candidate"), rows.ids("resource")
    identities = Identities(candidates=candidates, fingerprints=about.column("fingerprint", len(candidates)), resources=resources)
    certificate = Certificate(
        value=fields.whole("value"),
        upper_bound=fields.whole("upper_bound"),
        prices=rows.column("price", len(resources)),
        price_scale=fields.whole("price_scale"),
        seed=fields.whole("seed"),
        steps=fields.whole("steps"),
        reproducible=fields.one("reproducible", "true or false", lambda value: isinstance(value, bool)),
        solvers=fields.one("solvers", "an object", lambda value: isinstance(value, dict)),
        price_bound=fields.one("price_bound", "a whole number or null", lambda value: value is None or _is_whole(value)),
        claims=tuple(_claim(claim, candidates) for claim in fields.parts("claims")),
        cuts=_cuts(fields.part("rounded_rows"), fields.part("cliques"), identities),
    )
    selection = Selection(chosen=fields.ascending("selected", candidates), certificate=certificate)
    return SavedAnswer(selection=selection, identities=identities, left=rows.column("left", len(resources)))


def _claim(fields: _Fields, candidates: Int64) -> Claim:
    solver = fields.one("solver", "a name", lambda value: isinstance(value, str))
    return Claim(solver=solver, candidates=fields.ascending("candidates", candidates), bound=fields.whole("bound"))


def _cuts(rounded: _Fields, cliques: _Fields, identities: Identities) -> Cuts:
    price, clique_price = rounded.column("price"), cliques.column("price")
    resource = rounded.numbers("resource", identities.resources, len(price))
    numerator, denominator = rounded.column("numerator", len(price)), rounded.column("denominator", len(price))
    complemented_starts, complemented = rounded.lists("complemented", len(price), identities.candidates)
    clique_starts, members = cliques.lists("members", len(clique_price), identities.candidates)
    return Cuts(
        resource=resource,
        numerator=numerator,
        denominator=denominator,
        price=price,
        complemented_starts=complemented_starts,
        complemented=complemented,
        clique_starts=clique_starts,
        members=members,
        clique_price=clique_price,
    )
