"""The theme of every chart: plotly figures in plain JSON whose colours are CSS variables that the page fills in."""

from __future__ import annotations

from typing import Any

Figure = dict[str, Any]

#: What all axes have in common.
AXIS: Figure = {"gridcolor": "var(--grid)", "linecolor": "var(--line)"}


def font(size: int = 12) -> Figure:
    """The text of a chart, ``size`` in pixels."""
    return {"color": "var(--ink)", "family": "system-ui, sans-serif", "size": size}


def theme(title: str, *, simulated: bool) -> Figure:
    """The layout that all charts share: background, fonts and a title that says whether it shows simulated numbers."""
    return {
        "title": {
            "text": f"<b>SIMULATED</b> · {title}" if simulated else title,
            "font": font(13),
            "x": 0,
            "xref": "paper",
            "xanchor": "left",
        },
        "paper_bgcolor": "var(--card)",
        "plot_bgcolor": "var(--card)",
        "font": font(),
    }
