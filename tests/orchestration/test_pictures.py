"""A picture is for somebody who has never seen it: what it shows has a name, and nothing of it is cut off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pipeline_project.orchestration import pictures
from tests.world import World

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures, instead of their bytes."""
    figures: list[Any] = []
    monkeypatch.setattr(pictures, "_png", figures.append)
    return figures


@pytest.mark.parametrize("resources", [1, 6, 20])
def test_bars_and_their_legend_are_inside_the_picture(world: World, drawn: list[Figure], resources: int) -> None:
    world.resources(**{f"gate{i}": 1 for i in range(resources)})
    for i in range(resources):
        world.submit(f"a{i}", 1, {f"gate{i}": 1})
    cycles = world.engine.cycles
    pictures.utilisation(cycles.propose(cycles.graph(cycles.snapshot("p"))))
    (figure,) = drawn
    figure.canvas.draw()
    width, height = figure.bbox.size
    (axes,) = figure.axes
    for part in (axes.get_legend(), *axes.get_xticklabels(), *axes.get_yticklabels()):
        box = part.get_window_extent()
        assert min(box.x0, box.y0, width - box.x1, height - box.y1) >= 0, part


def test_contested_resources_have_their_names(contested: World, drawn: list[Figure]) -> None:
    cycles = contested.engine.cycles
    pictures.conflicts(cycles.graph(cycles.snapshot("p")))
    (axes,) = drawn[0].axes
    assert [text.get_text() for text in axes.texts] == ["gate"]
    assert axes.get_title() == "3 of 3 candidates (circles, by weight), 1 contested resources (squares)"
