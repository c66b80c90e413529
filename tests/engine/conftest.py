"""A shop whose ended items soon leave the hot tables."""

from __future__ import annotations

import pytest

from tests.world import World


@pytest.fixture
def shop(world: World) -> World:
    """Ended items stay hot for a day; a fuel that is spent, a node that comes back."""
    world.policy({"retention": {"items": "1d"}, "retries": {"max_attempts": 1}})
    world.resources(node=9)
    world.resources(kind="consumable", fuel=9)
    return world
