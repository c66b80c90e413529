"""The parts that processes play in a crowd, until they are killed; whatever was answered to one is in its ledger before it goes on.

One Python that has imported everything forks a process for each part: `Troupe`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from pipeline_project.core.errors import PipelineError, Refused, Retryable, StalePlan
from pipeline_project.engine.commit import Commit
from pipeline_project.engine.engine import Engine
from pipeline_project.solvers.portfolio import solve
from pipeline_project.solvers.solver import Budget
from pipeline_project.store import cycles
from tests.chaos.nursery import engine_at
from tests.solvers.packing_problems import random_problem

CYCLE_LEASE_S: Final = 2
"""A cycle whose owner was killed is taken over after so long; a minute, where nobody kills for sport."""

CHUNK: Final = 2
"""Items that one transaction of a commit moves, so that a cycle of a few has several. Whoever takes it over must cut it alike."""

POLICY: Final[dict[str, Any]] = {
    "ttl": {"hold": "1s", "lease": "1s"},
    "retries": {"max_attempts": 3, "backoff": "0s", "on_failure": "requeue"},
    "solver": {"steps": 100_000},
}
RESOURCES: Final = [{"key": f"r{n}", "capacity": n + 1} for n in range(5)] + [{"key": "fuel", "capacity": 100_000, "kind": "consumable"}]


class Part:
    """One process's deeds, with dice and a ledger of its own."""

    def __init__(self, engine: Engine, pool: str, seed: int, ledger: Path) -> None:
        self.engine, self.pool = engine, pool
        self.dice = random.Random(seed)
        self.names = (f"{seed}-{n}" for n in count())
        self._ledger = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def acknowledged(self, what: str, *of: Any) -> None:
        os.write(self._ledger, (json.dumps([what, *of]) + "\n").encode())  # one write: whole, or not at all

    def produce(self) -> None:
        row = {"weight": self.dice.randrange(100), "demands": {f"r{self.dice.randrange(5)}": 1, "fuel": 1}}
        if self.dice.random() < 0.3:
            bundle = next(self.names)
            rows = [{**row, "key": next(self.names), "bundle_key": bundle, "bundle_size": 2} for _ in range(2)]
        else:
            rows = [{**row, "key": next(self.names)}]
        if not self.engine.intake.submit(self.pool, rows).refused:
            self.acknowledged("submit", [one["key"] for one in rows])

    def commit(self) -> None:
        """The next cycle; now and then the day anew, which takes back and selects in several transactions."""
        report = self.engine.cycles.run(self.pool)
        self.acknowledged("publish", report["cycle"])
        if self.dice.random() < 0.2:
            (again,) = self.engine.cycles.reprocess(self.pool, report["day"], report["day"])
            self.acknowledged("publish", again["cycle"])

    def roll_back(self) -> None:
        published = [row["cycle"] for row in self.engine.inquiry.cycles(self.pool, most=5) if row["status"] == "published"]
        if published:
            key = self.dice.choice(published)
            self.engine.cycles.rollback(key, pool=self.pool)
            self.acknowledged("roll back", key)
        time.sleep(self.dice.random())

    def meddle(self) -> None:
        keys = [row["key"] for row in self.engine.inquiry.items(self.pool) if row["state"] in ("pending", "selected", "claimed")]
        key = self.dice.choice(keys or [""])
        match self.dice.randrange(4):
            case 0 if self.engine.intake.cancel(self.pool, [key]):
                self.acknowledged("cancel", key)
            case 1 | 2:
                self.engine.intake.revise(self.pool, key, {"weight": self.dice.randrange(100)})
            case 3:
                self.engine.intake.set_capacity(self.pool, f"r{self.dice.randrange(5)}", self.dice.randrange(1, 6), release=True)

    def execute(self) -> None:
        claims = [(row["item"], row["token"]) for row in self.engine.execution.claim(self.pool, f"e{self.dice.randrange(3)}", most=3)]
        if not claims:
            return
        self.acknowledged("claim", claims)
        fate = self.dice.random()
        if fate < 0.2:
            return  # forgotten
        if fate < 0.4:
            answers = self.engine.execution.fail(self.pool, claims, error="boom")
        else:
            answers = self.engine.execution.complete(self.pool, claims)
        self.acknowledged("fail" if fate < 0.4 else "complete", [(row["item"], row["token"]) for row in answers if row["accepted"]])

    def sweep(self) -> None:
        self.engine.upkeep.sweep()
        self.engine.execution.heartbeat(self.pool, "e0", ttl_s=1)
        time.sleep(self.dice.random() / 5)


PARTS: Final[dict[str, Callable[[Part], None]]] = {
    "committer": Part.commit,
    "another committer": Part.commit,
    "producer": Part.produce,
    "canceller": Part.meddle,
    "executor": Part.execute,
    "another executor": Part.execute,
    "sweeper": Part.sweep,
    "roller-back": Part.roll_back,
}


class Troupe:
    """`with Troupe(engine, pool, ledger) as troupe:` processes that play parts; the last one is killed when the block ends."""

    def __init__(self, engine: Engine, pool: str, ledger: Path) -> None:
        url = engine.database.url.render_as_string(hide_password=False)
        self._where = {"url": url, "artifacts": engine.artifacts.root, "pool": pool, "ledger": str(ledger)}
        self._playing: dict[str, int] = {}

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.chaos.parts"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process.stdin and self._process.stdout
        for part in list(self._playing):
            self.kill(part)
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def start(self, part: str, seed: int) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps({**self._where, "part": part, "seed": seed}) + "\n")
        self._process.stdin.flush()
        self._playing[part] = int(self._process.stdout.readline())

    def kill(self, part: str) -> None:
        """kill -9, wherever it is."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps({"kill": self._playing.pop(part)}) + "\n")
        self._process.stdin.flush()
        ended = int(self._process.stdout.readline())
        assert ended == -signal.SIGKILL, f"{part} had ended by itself: {ended}"


def main() -> None:
    Commit._chunk_size = lambda _: CHUNK  # type: ignore[method-assign]  # in this process and its children
    solve(random_problem(1, n=30, m=6, rows=2), Budget(steps=POLICY["solver"]["steps"]), 0, None)  # every child has the compiled loops
    for line in sys.stdin:
        request = json.loads(line)
        if "kill" in request:
            os.kill(request["kill"], signal.SIGKILL)  # our own child, which nobody has waited for yet: its number is its own
            _, ended = os.waitpid(request["kill"], 0)
            sys.stdout.write(f"{os.waitstatus_to_exitcode(ended)}\n")
        else:
            child = os.fork()
            if child == 0:
                _play(**request)
            sys.stdout.write(f"{child}\n")
        sys.stdout.flush()


def _play(*, url: str, artifacts: str, pool: str, ledger: str, part: str, seed: int) -> None:
    """As a person would: again after what the classes of failures tell to try again. Anything else ends the process, and so the test."""
    cycles.LEASE_S = CYCLE_LEASE_S
    nursery = os.getppid()
    try:
        actor = Part(engine_at(url, artifacts), pool, seed, Path(ledger))
        while os.getppid() == nursery:  # nobody outlives the test
            try:
                PARTS[part](actor)
            except (Retryable, StalePlan, Refused):
                time.sleep(0.01)
            except PipelineError as failure:
                sys.stderr.write(f"{part}: {failure!r}\n")
                os._exit(3)
    except BaseException as failure:  # a child never becomes a second nursery
        sys.stderr.write(f"{part}: {failure!r}\n")
    os._exit(4)


if __name__ == "__main__":
    main()
