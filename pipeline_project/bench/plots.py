"""Gap over time as a picture, a panel for each instance."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from pipeline_project.bench.selection import OURS, medians
from pipeline_project.core.errors import UsageError

FORMATS: Final = (".svg", ".png", ".pdf")
COLUMNS: Final = 3
LEAST: Final = 1e-4
"""Percent: the axis is logarithmic, and nothing below is drawn lower."""


def check_format(path: Path) -> None:
    """Refuse a name that no picture can have, before hours of measuring."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"--plot: expected a file that ends in {', '.join(FORMATS)}, found {path}")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--plot: expected a folder that exists, found {path.absolute().parent}")


def gap_over_time(rows: list[dict[str, Any]], path: Path) -> None:
    """x: seconds; y: percent below the best bound that anybody proved, median over seeds; both logarithmic."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    points = medians(rows)
    names = list(dict.fromkeys(point["instance"] for point in points))
    peers = list(dict.fromkeys(point["peer"] for point in points))
    budgets = [float(point["seconds"]) for point in points]
    lines = -(-len(names) // COLUMNS)
    figure = Figure(figsize=(4 * min(COLUMNS, len(names)), 3 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    for number, name in enumerate(names):
        axes = figure.add_subplot(lines, min(COLUMNS, len(names)), number + 1)
        for colour, peer in enumerate(peers):
            drawn = [point for point in points if (point["instance"], point["peer"]) == (name, peer) and point["from_bound"] < 1]
            drawn.sort(key=lambda point: float(point["seconds"]))
            gaps = [max(LEAST, 100 * point["from_bound"]) for point in drawn]
            style: dict[str, Any] = (
                {"marker": "D", "linewidth": 2, "markersize": 4, "zorder": 3} if peer == OURS else {"marker": "o", "linewidth": 1}
            )
            axes.plot([point["seconds"] for point in drawn], gaps, color=f"C{colour}", label=peer, **style)
        axes.set(title=name, xscale="log", yscale="log", xlabel="seconds", ylabel="% below the best bound")
        axes.set_xlim(min(budgets) / 1.5, max(budgets) * 1.5)
        if not any(np.size(line.get_xdata()) for line in axes.lines):  # nobody proved a bound
            axes.set_ylim(LEAST, 100)
        for axis in (axes.xaxis, axes.yaxis):  # 10, not ten to the power of one
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter("")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3 * min(COLUMNS, len(names)))
    figure.savefig(path)
