"""What the tests of this folder share: how deep this run looks."""

from __future__ import annotations

import os

import pytest

from tests.chaos.depth import Depth
from tests.conftest import SEED

WHOLE_S = 1800
"""A test that looks at every point may take so long before it hangs: minutes, where others want the machine too."""


@pytest.fixture
def depth(request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]) -> Depth:
    option = request.config.option
    if option.every_statement or option.soak is not None:
        request.node.add_marker(pytest.mark.timeout((option.soak or 0) + WHOLE_S))
    found = Depth(seed=int(os.environ[SEED]), soak_s=option.soak, whole=option.every_statement, capture=capfd)
    found.tell(f"{request.node.name}: seed {found.seed}; the same again by --seed {found.seed}")
    return found
