"""What the tests of this folder share: how deep this run looks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.chaos.depth import Depth
from tests.conftest import SEED

WHOLE_S = 1800
"""A test that looks at every point may take so long before it hangs: minutes, where others want the machine too."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Here, and not in a fixture: pytest-timeout has started its clock by then."""
    soak_s = config.getoption("--soak")
    if config.getoption("--every-statement") or soak_s is not None:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.timeout((soak_s or 0) + WHOLE_S))


@pytest.fixture
def depth(request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]) -> Depth:
    option = request.config.option
    found = Depth(seed=int(os.environ[SEED]), soak_s=option.soak, whole=option.every_statement, capture=capfd)
    found.tell(f"{request.node.name}: seed {found.seed}; the same again by --seed {found.seed}")
    return found
