"""The experts' charts as plotly figures in plain JSON. Colours are CSS variables that the page fills in."""

from __future__ import annotations

from typing import Any

from wideloop.results.dashboard.figures import AXIS, Figure, font, theme
from wideloop.results.experts.role_report import RoleReport
from wideloop.results.experts.sides import IN_ORDER, PLACED

#: The colour scale ends at so many times the mean, so that one hot expert does not flatten all others.
_HOTTEST = 6.0
_SCALE = [[0, "var(--card)"], [1 / _HOTTEST, "var(--heat-mean)"], [0.6, "var(--heat-high)"], [1, "var(--heat-top)"]]


def figures(role: RoleReport, *, simulated: bool) -> dict[str, Any]:
    """By name; ``over_time`` holds one for each layer that it is known of."""
    return {
        "heat": _heat(role, simulated),
        "over_time": {str(layer): _over_time(role, layer, simulated) for layer in role.over_time},
        "layers": _layers(role, simulated),
        "ranks": _ranks(role, simulated),
        "windows": _windows(role, simulated),
        "groups": _groups(role, simulated),
        "slots": _slots(role, simulated),
    }


def _heat(role: RoleReport, simulated: bool) -> Figure:
    data = {
        **_heatmap(role.heat),
        "y": [str(layer) for layer in role.layers],
        "hovertemplate": "layer %{y}, expert %{x}: %{z:.2f} x the layer's mean<extra></extra>",
    }
    layout = _layout("Load of every expert", "expert", "layer", simulated)
    layout["yaxis"] |= {"type": "category", "autorange": "reversed", "nticks": 20}
    return {"data": [data], "layout": layout}


def _over_time(role: RoleReport, layer: int, simulated: bool) -> Figure:
    data = {
        **_heatmap(role.over_time[layer]),
        "hovertemplate": "window %{y}, expert %{x}: %{z:.2f} x the mean<extra></extra>",
    }
    axis = "window of time" if role.ordered else "window (order not known: the ring buffer had wrapped)"
    layout = _layout(f"Layer {layer} over time", "expert", axis, simulated)
    layout["yaxis"] |= {"autorange": "reversed", **_whole(len(role.over_time[layer]))}
    return {"data": [data], "layout": layout}


def _layers(role: RoleReport, simulated: bool) -> Figure:
    x = list(role.layers)
    data = [
        _line(IN_ORDER, x, role.before, "var(--muted)"),
        _line(f"{PLACED}, R = {role.redundant}", x, role.after, "var(--accent)"),
        {
            **_line("best possible", x, role.best, "var(--ink)"),
            "line": {"color": "var(--ink)", "dash": "dot", "width": 1},
        },
    ]
    layout = _layout("Balance of every layer", "layer", "mean / hottest rank", simulated)
    layout["yaxis"] |= {"range": [0, 1.04]}
    return {"data": data, "layout": layout}


def _ranks(role: RoleReport, simulated: bool) -> Figure:
    x = list(range(len(role.ranks_before)))
    data = [
        _bar(IN_ORDER, x, role.ranks_before, "var(--muted)"),
        _bar(PLACED, x, role.ranks_after, "var(--accent)"),
    ]
    title = f"Rank loads of layer {role.worst_layer}, the least balanced"
    return {"data": data, "layout": _layout(title, "expert-parallel rank", "load / mean", simulated)}


def _windows(role: RoleReport, simulated: bool) -> Figure:
    before, after = role.balance_by_window
    x = list(range(len(before)))
    data = [
        _line(IN_ORDER, x, before, "var(--muted)"),
        _line(PLACED, x, after, "var(--accent)"),
    ]
    layout = _layout("Balance over time, one placement", "window", "mean / hottest rank", simulated)
    layout["xaxis"] |= _whole(len(before))
    layout["yaxis"] |= {"range": [0, 1.04]}
    return {"data": data, "layout": layout}


def _groups(role: RoleReport, simulated: bool) -> Figure:
    sizes = role.group_sizes
    x = [f"EP {size.ep}" for size in sizes]
    high = [size.p95 - size.median for size in sizes]
    low = [size.median - size.p5 for size in sizes]
    bars = {
        **_bar("median", x, [size.median for size in sizes], "var(--series)"),
        "error_y": {"type": "data", "array": high, "arrayminus": low, "color": "var(--ink)", "thickness": 1.2},
        "hovertemplate": "%{x}: median %{y:.1f} tokens per expert<extra></extra>",
    }
    title = "Tokens per expert group at equal tokens per GPU (bars: 5 to 95 %)"
    layout = _layout(title, "", "tokens per group", simulated)
    return {"data": [bars], "layout": layout | {"showlegend": False}}


def _slots(role: RoleReport, simulated: bool) -> Figure:
    sizes = role.group_sizes
    # The colours of the wide-EP lab: 20 experts per GPU and more are many, 10 some.
    colours = [
        "var(--bad)" if s.experts_per_gpu >= 20 else "var(--warn)" if s.experts_per_gpu >= 10 else "var(--accent)"
        for s in sizes
    ]
    bars = {
        **_bar("experts", [f"EP {s.ep}" for s in sizes], [s.experts_per_gpu for s in sizes], "var(--series)"),
        "marker": {"color": colours},
        "text": [f"{s.experts_per_gpu:g}" for s in sizes],
        "hovertemplate": "%{x}: %{y:g} experts per GPU<extra></extra>",
    }
    layout = _layout("Experts per GPU, without redundancy", "", "experts of a layer", simulated)
    return {"data": [bars], "layout": layout | {"showlegend": False}}


def _heatmap(z: Any) -> Figure:
    return {
        "type": "heatmap",
        "z": z,
        "zmin": 0,
        "zmax": _HOTTEST,
        "colorscale": _SCALE,
        "colorbar": {"title": {"text": "x mean"}, "thickness": 12, "outlinewidth": 0, "tickfont": font(), "len": 1},
    }


def _line(name: str, x: Any, y: Any, colour: str) -> Figure:
    return {"type": "scatter", "mode": "lines", "name": name, "x": x, "y": y, "line": {"color": colour, "width": 2}}


def _bar(name: str, x: Any, y: Any, colour: str) -> Figure:
    return {"type": "bar", "name": name, "x": x, "y": y, "marker": {"color": colour}}


def _layout(title: str, x: str, y: str, simulated: bool) -> Figure:
    axis = AXIS | {"zerolinecolor": "var(--grid)", "tickfont": font()}
    shared = theme(title, simulated=simulated)
    return {
        **shared,
        "title": shared["title"] | {"y": 0.97},
        "hoverlabel": {"bgcolor": "var(--card)", "font": {"color": "var(--ink)"}, "bordercolor": "var(--line)"},
        "margin": {"l": 56, "r": 12, "t": 58, "b": 44},
        "legend": {"orientation": "h", "y": 1.0, "x": 0, "yanchor": "bottom"},
        "barmode": "group",
        "xaxis": {**axis, "title": {"text": x}},
        "yaxis": {**axis, "title": {"text": y}},
    }


def _whole(count: int) -> Figure:
    """Ticks of an axis that counts to ``count``."""
    return {"tickformat": "d", "dtick": max(count // 8, 1)}
