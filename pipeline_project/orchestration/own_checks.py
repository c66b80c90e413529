"""Checks of your own: a function of five lines, or a SQL file in a folder. What it returns is what is wrong."""

# No postponed annotations here either: whoever writes a check copies from this file.
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final, get_args

from pipeline_project.core.errors import Refused
from pipeline_project.core.policy import Severity
from pipeline_project.orchestration.faults import Fault, Faults
from pipeline_project.store import own_queries

Query = Callable[[str], list[dict[str, Any]]]
"""Runs SQL as pipeline_reader, read-only, for 10 s at most, with :pool, :cycle and :day bound; answers its rows."""
Judge = Callable[[Any, Query], Iterable[str | Mapping[str, Any]]]

ASSETS: Final = ("pending_items", "conflict_graph", "proposed_selections", "committed_decisions")
ENTRY_POINTS: Final = "pipeline_project.checks"
_HEADER: Final = re.compile(r"--\s*(\w+)\s*:\s*(.*?)\s*")
_HEADERS: Final = ("name", "asset", "severity", "blocking", "description")


class CheckRefused(Refused):
    """A check of your own cannot be loaded. The message names the file, the line, what is expected there and what was found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCheck:
    """judge: rows (or sentences) that say what is wrong with what the asset made; nothing = passed."""

    name: str
    asset: str
    description: str
    severity: Severity
    blocking: bool
    judge: Judge
    where: str

    def __post_init__(self) -> None:
        expected = {
            "name": ("a-z, 0-9 and _, such as vip_first", bool(re.fullmatch(r"[a-z][a-z0-9_]{0,62}", self.name))),
            "asset": (f"one of {', '.join(ASSETS)}", self.asset in ASSETS),
            "severity": (f"one of {', '.join(get_args(Severity))}", self.severity in get_args(Severity)),
            "description": ("a sentence that says what must be true", bool(self.description.strip())),
        }
        for field, (wanted, holds) in expected.items():
            if not holds:
                raise CheckRefused(f"{self.where}: {field}: expected {wanted}, found {getattr(self, field)!r}")

    def faults(self, made: Any, query: Query) -> Faults:
        """What is wrong. A check that cannot be run fails; no run, and with it no pool, stops for a mistake in somebody's check."""
        try:
            return [one if isinstance(one, str) else Fault(_sentence(one), **one) for one in self.judge(made, query)]
        except Refused as refusal:
            return [f"{self.where}: {refusal}"]
        except Exception as failure:  # it is a stranger's code: nobody knows what it raises
            return [f"{self.where}: the check itself failed: {type(failure).__name__}: {failure}"]


def constraint_check(*, asset: str, severity: Severity = "error", blocking: bool = False) -> Callable[[Judge], OwnCheck]:
    """Makes a function a check of an asset; its name and docstring are the check's.

    The function is given what the asset made, and `query`, which runs SQL. Each row (or sentence) it returns is a fault.
    """

    def made_of(judge: Judge) -> OwnCheck:
        name, description = str(getattr(judge, "__name__", "")), judge.__doc__ or ""
        code = getattr(judge, "__code__", None)
        where = f"{code.co_filename}: line {code.co_firstlineno}" if code else repr(judge)
        return OwnCheck(name=name, asset=asset, description=description, severity=severity, blocking=blocking, judge=judge, where=where)

    return made_of


def load(folder: Path) -> list[OwnCheck]:
    """The checks of *.sql and *.py files in a folder, by name of file, and those of installed packages. Raises CheckRefused."""
    found = [*_of_folder(folder), *_of_packages()]
    first: dict[tuple[str, str], str] = {}
    for check in found:
        if (at := first.setdefault((check.asset, check.name), check.where)) != check.where:
            raise CheckRefused(f"{check.where}: name: expected another than {check.name}, which {at} has")
    return found


def of_sql(path: Path) -> OwnCheck:
    """A query whose rows are faults; comments at its head say the rest."""
    text = path.read_text(encoding="utf-8")
    known: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        header = _HEADER.fullmatch(line.strip())
        if not line.strip().startswith("--"):
            break
        if header and header[1] not in _HEADERS:
            raise CheckRefused(f"{path}: line {number}: expected one of {', '.join(_HEADERS)} before the colon, found {header[1]!r}")
        if header:
            known[header[1]] = header[2]
    query = re.sub(r"^\s*--[^\n]*\n", "", text, flags=re.MULTILINE).strip()
    if not query:
        raise CheckRefused(f"{path}: expected a query whose rows are faults, found none")
    if unknown := [name for name in own_queries.parameters(text) if name not in own_queries.PARAMETERS]:
        at = text.count("\n", 0, text.index(f":{unknown[0]}")) + 1
        raise CheckRefused(f"{path}: line {at}: expected :pool, :cycle or :day, found :{unknown[0]}")
    blocking = known.get("blocking", "false")
    if blocking not in ("true", "false"):
        raise CheckRefused(f"{path}: blocking: expected true or false, found {blocking!r}")

    def judge(_: Any, run: Query) -> list[dict[str, Any]]:
        return run(text)

    return OwnCheck(
        name=known.get("name", path.stem),
        asset=known.get("asset", ""),
        description=known.get("description", ""),
        severity=known.get("severity", "error"),  # type: ignore[arg-type]  # looked at when it is made
        blocking=blocking == "true",
        judge=judge,
        where=str(path),
    )


def _of_folder(folder: Path) -> Iterator[OwnCheck]:
    for path in sorted(folder.glob("*.sql")):
        yield of_sql(path)
    for path in sorted(folder.glob("*.py")):
        yield from _members(_module(path))


def _module(path: Path) -> object:
    name = f"pipeline_own_checks_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except CheckRefused:
        raise
    except Exception as failure:
        lines = [frame.lineno for frame in traceback.extract_tb(failure.__traceback__) if frame.filename == str(path)]
        at = f"line {lines[-1]}: " if lines else ""  # a syntax error says it by itself
        raise CheckRefused(f"{path}: {at}cannot be loaded: {type(failure).__name__}: {failure}") from failure
    return module


def _of_packages() -> Iterator[OwnCheck]:
    for point in entry_points(group=ENTRY_POINTS):
        loaded = point.load()
        yield from [loaded] if isinstance(loaded, OwnCheck) else _members(loaded)


def _members(module: object) -> list[OwnCheck]:
    return [member for member in vars(module).values() if isinstance(member, OwnCheck)]


def _sentence(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in row.items())
