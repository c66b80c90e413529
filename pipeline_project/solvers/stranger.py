"""`python -m pipeline_project.solvers.stranger MODULE:FUNCTION BYTES`: one solver in a process of its own, with so much memory.

Reads requests from standard input and writes proposals to standard output, each after its length in eight bytes, until the input
ends. Whatever the solver prints goes to standard error.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from importlib import import_module
from typing import IO, Any

from pipeline_project.solvers.proposal import Proposal, Request


def main() -> None:
    where, memory = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    answers, sys.stdout = sys.stdout.buffer, sys.stderr
    module, _, function = where.partition(":")
    solver: Callable[..., Any] = getattr(import_module(module), function)
    while message := receive(sys.stdin.buffer):
        request = Request.from_bytes(message)
        send(answers, _proposal(solver(request.problem, request.budget, request.seed, request.start)).to_bytes())


def _proposal(answer: Any) -> Proposal:
    """A solver answers with a selection, ours with a proposal."""
    if isinstance(answer, Proposal):
        return answer
    certificate = answer.certificate
    return Proposal(
        chosen=answer.chosen, upper_bound=certificate.upper_bound, steps=certificate.steps, reproducible=certificate.reproducible
    )


def send(stream: IO[bytes], message: bytes) -> None:
    stream.write(len(message).to_bytes(8, "little") + message)
    stream.flush()


def receive(stream: IO[bytes]) -> bytes:
    """Empty at the end."""
    return stream.read(int.from_bytes(stream.read(8), "little"))


if __name__ == "__main__":
    main()
