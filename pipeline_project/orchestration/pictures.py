"""Two pictures of a cycle: who stands in whose way, and how full each resource is."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Final

import numpy as np

from pipeline_project.core.conflict_graph import ConflictGraph
from pipeline_project.core.decisions import Proposal
from pipeline_project.core.packing import Int64

if TYPE_CHECKING:  # matplotlib and networkx cost a second of start-up, which only a run that draws should pay
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CANDIDATES_DRAWN: Final = 80
"""More circles than this are a black spot."""
BARS_DRAWN: Final = 12
NAMES_DRAWN: Final = 12
NAME_MAX: Final = 40
DPI: Final = 80
COLOURS: Final = 24

_SELECTED, _HELD, _ROOM, _CANDIDATE, _RESOURCE = "#2a9d8f", "#8d99ae", "#e9ecef", "#457b9d", "#e76f51"


def conflicts(graph: ConflictGraph) -> str | None:
    """The largest components: circles are candidates, by weight; squares the contested resources they want. Base64 PNG.

    Drawn as who wants what, not as pairs: three candidates for two places exclude each other, though no two of them do.
    None when nobody stands in anybody's way.
    """
    import networkx as nx
    from matplotlib.collections import LineCollection

    shown = _largest_components(graph)
    wants = _contested_demands(graph, shown)
    if not len(wants):
        return None
    drawing = nx.Graph([(("candidate", int(c)), ("resource", int(r))) for c, r in wants])
    at = nx.spring_layout(drawing, seed=0, iterations=30)
    candidates = [node for node in drawing if node[0] == "candidate"]
    resources = [node for node in drawing if node[0] == "resource"]
    heaviest = max(int(graph.problem.weights.max()), 1)
    figure, axes = _canvas(8, 5, (0.02, 0.02, 0.96, 0.9))
    axes.add_collection(LineCollection([(at[a], at[b]) for a, b in drawing.edges], colors="#adb5bd", linewidths=0.6))
    sizes = [15 + 120 * int(graph.problem.weights[c]) / heaviest for _, c in candidates]
    axes.scatter([at[node][0] for node in candidates], [at[node][1] for node in candidates], s=sizes, color=_CANDIDATE, zorder=2)
    axes.scatter([at[node][0] for node in resources], [at[node][1] for node in resources], s=35, color=_RESOURCE, marker="s", zorder=2)
    for node in sorted(resources, key=drawing.degree, reverse=True)[:NAMES_DRAWN]:
        name = graph.name_of_resource(node[1])[:NAME_MAX]
        x, y = at[node]
        axes.annotate(name, (x, y), xytext=(5, 4), textcoords="offset points", fontsize=7, zorder=3)
    said = f"{len(candidates)} of {graph.problem.n} candidates (circles, by weight), {len(resources)} contested resources (squares)"
    axes.set_title(said, fontsize=9)
    axes.axis("off")
    return _png(figure)


def utilisation(proposal: Proposal) -> str | None:
    """The fullest resources: held before, selected by this cycle, free. Base64 PNG; None when nothing is limited."""
    snapshot, problem = proposal.graph.snapshot, proposal.graph.problem
    m = len(snapshot.resource_ids)  # a limit on the number of selected items is no resource to look at
    taken = problem.capacities - problem.left_by(proposal.selection.chosen)
    capacities = np.maximum(snapshot.capacities, 1)
    held, selected = (snapshot.capacities - snapshot.free) / capacities, taken[:m] / capacities
    first = np.argsort(-(held + selected), kind="stable")[:BARS_DRAWN][::-1]
    if not len(first):
        return None
    height = 1 + 0.22 * len(first)  # and the legend wants as much room over one bar as over ten
    figure, axes = _canvas(8, height, (0.26, 0.25 / height, 0.7, 1 - 0.65 / height))
    rows = np.arange(len(first))
    axes.barh(rows, np.ones(len(first)), color=_ROOM)
    axes.barh(rows, held[first], color=_HELD, label="held before")
    axes.barh(rows, selected[first], left=held[first], color=_SELECTED, label="selected now")
    axes.set_yticks(rows, [str(snapshot.resource_keys[int(r)].as_py())[:NAME_MAX] for r in first], fontsize=7)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.6, len(first) - 0.4)
    axes.set_xticks([0, 0.5, 1], ["0", "half", "full"], fontsize=7)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=7, frameon=False)
    axes.spines[:].set_visible(False)
    return _png(figure)


def _largest_components(graph: ConflictGraph) -> Int64:
    """Candidates of whole components, largest first, as many as can be told apart; of a huge one, its heaviest."""
    labels = graph.components()
    sizes = np.bincount(labels, minlength=1)
    order = np.lexsort((-graph.problem.weights, labels, -sizes[labels]))
    return order[:CANDIDATES_DRAWN].astype(np.int64)


def _contested_demands(graph: ConflictGraph, candidates: Int64) -> Int64:
    """int64[e, 2]: (candidate, contested resource)."""
    owner = graph.problem.candidates()
    rows = np.isin(owner, candidates) & np.isin(graph.problem.resources, graph.contested())
    return np.column_stack((owner[rows], graph.problem.resources[rows].astype(np.int64)))


def _canvas(width: float, height: float, area: tuple[float, float, float, float]) -> tuple[Figure, Axes]:
    """area: left, bottom, width, height of the axes. Said outright: to fit them to their labels would draw everything twice."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))  # no pyplot: it keeps every figure, and needs one thread
    FigureCanvasAgg(figure)
    return figure, figure.add_axes(area)


def _png(figure: Figure) -> str:
    """In a few colours: a fifth of the bytes, and nobody sees the difference."""
    from PIL import Image

    buffer = io.BytesIO()
    figure.set_dpi(DPI)
    canvas = figure.canvas
    canvas.draw()
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(COLOURS).save(buffer, "png")  # type: ignore[attr-defined]  # Agg's canvas has it
    return base64.b64encode(buffer.getvalue()).decode()
