"""The Pareto chart as a plotly figure in plain JSON. Colours are CSS variables that the page fills in."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

from wideloop.results.dashboard.figures import AXIS, theme
from wideloop.results.dashboard.labels import MARGIN, Point, positions
from wideloop.results.dashboard.trials import TrialRow
from wideloop.results.records import Measurement
from wideloop.results.statistics import pareto_front

Per = Literal["gpu", "decode_gpu"]

_DENOMINATOR: dict[Per, str] = {"gpu": "GPU", "decode_gpu": "decode GPU"}
#: Up to this number of trials without a measurement, the strip shows their labels.
_STRIP = 4


def pareto(
    shown: Sequence[TrialRow], measurements: Sequence[Measurement], *, simulated: bool, per: Per
) -> dict[str, Any]:
    """Throughput per GPU against interactivity, ``{"data": [...], "layout": {...}}``.

    x is tokens per second of one user (1000 / mean TPOT in ms), y output tokens per second per ``per``.
    Trials outside the SLO, invalid trials (a gate failed) and trials that never ran have their own marks; the last
    have no coordinates and are shown in a strip below. The front is that of the points and axes shown.
    Labels name the default, the best and, where there is room, the rest of the front; all others show on hover.
    """
    ran = [row for row in shown if row.measured]
    ok = [row for row in ran if row.mark == "ok"]
    points = {row.number: _point(row, measurements, per) for row in ran}
    front = [ok[i] for i in pareto_front([points[row.number] for row in ok])]
    captions, places = _labels(ran, front, points, per)
    data = [_front(front, points)] if len(front) > 1 else []
    for name, style, members in (
        ("within the SLO", ("circle", "var(--series)"), [r for r in ok if not (r.is_default or r.is_best)]),
        ("outside the SLO", ("diamond-open", "var(--warn)"), _plain(ran, "slo")),
        ("invalid (gate failed)", ("square-open", "var(--muted)"), _plain(ran, "gates")),
        ("default", ("square", "var(--ink)"), [r for r in ran if r.is_default and not r.is_best]),
        ("best", ("star", "var(--accent)"), [r for r in ran if r.is_best]),
    ):
        if members:
            data.append(_trace(name, *style, members, points, captions, places, per))
    lost = [row for row in shown if row.mark in ("infeasible", "failed")]
    if lost:
        data.append(_strip(lost))
    ends = [end for row in ran for end in _spread(row, points[row.number], per)]
    return {"data": data, "layout": _layout(simulated, per, len(lost), [*points.values(), *ends])}


def _labels(
    ran: Sequence[TrialRow], front: Sequence[TrialRow], points: dict[int, Point], per: Per
) -> tuple[dict[int, str], dict[int, str]]:
    """Texts and their positions by trial; a text is empty where there is no room for it."""
    named = {row.number for row in front} | {row.number for row in ran if row.is_default or row.is_best}
    texts = [_caption(row) if row.number in named else "" for row in ran]
    must = [i for i, row in enumerate(ran) if row.is_default or row.is_best]
    drawn = [(points[a.number], points[b.number]) for a, b in pairwise(front)]
    drawn += [_spread(row, points[row.number], per) for row in ran if row.repeats]
    places = positions([points[row.number] for row in ran], texts, must, drawn)
    captions = {row.number: caption if place else "" for row, caption, place in zip(ran, texts, places, strict=True)}
    return captions, {row.number: place or "top center" for row, place in zip(ran, places, strict=True)}


def _spread(row: TrialRow, point: Point, per: Per) -> tuple[Point, Point]:
    """The ends of the error bar; both are the point itself without repeats."""
    if row.repeats is None:
        return point, point
    return (point[0], row.repeats.low * _share(row, per)), (point[0], row.repeats.high * _share(row, per))


def _plain(ran: Sequence[TrialRow], mark: str) -> list[TrialRow]:
    return [row for row in ran if row.mark == mark and not (row.is_default or row.is_best)]


def _share(row: TrialRow, per: Per) -> float:
    """Factor from tok/s per GPU to tok/s per decode GPU (1.0 for per="gpu")."""
    if per == "gpu" or not row.tok_s_per_gpu or not row.tok_s_per_decode_gpu:
        return 1.0
    return row.tok_s_per_decode_gpu / row.tok_s_per_gpu


def _point(row: TrialRow, measurements: Sequence[Measurement], per: Per) -> tuple[float, float]:
    """Coordinates of a trial; those of a repeated configuration are the mean of its repeats."""
    x, y = row.tok_s_per_user or 0.0, row.tok_s_per_gpu or 0.0
    if row.repeats:
        y = row.repeats.mean
        again = [
            m.tok_s_per_user
            for m in measurements
            if m.purpose == "repeat" and m.concurrency == row.concurrency and m.trial_number == row.number
        ]
        x = sum(again) / len(again) if again else x
    return x, y * _share(row, per)


def _front(front: Sequence[TrialRow], points: dict[int, tuple[float, float]]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "Pareto front",
        "x": [points[row.number][0] for row in front],
        "y": [points[row.number][1] for row in front],
        "line": {"color": "var(--series)", "width": 1.5, "dash": "dot"},
        "hoverinfo": "skip",
    }


def _trace(
    name: str,
    symbol: str,
    colour: str,
    members: Sequence[TrialRow],
    points: dict[int, tuple[float, float]],
    captions: dict[int, str],
    places: dict[int, str],
    per: Per,
) -> dict[str, Any]:
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers+text",
        "name": name,
        "x": [points[row.number][0] for row in members],
        "y": [points[row.number][1] for row in members],
        "text": [captions[row.number] for row in members],
        "textposition": [places[row.number] for row in members],
        "cliponaxis": False,
        "textfont": {"size": 10.5, "color": "var(--muted)"},
        "customdata": [[row.number, row.description, row.why or name] for row in members],
        "hovertemplate": (
            "<b>trial %{customdata[0]}</b><br>%{customdata[1]}<br>%{y:.1f} tok/s/"
            + _DENOMINATOR[per]
            + ", %{x:.1f} tok/s/user<br>%{customdata[2]}<extra></extra>"
        ),
        "marker": {"symbol": symbol, "color": colour, "size": 17 if symbol == "star" else 10, "line": _outline(symbol)},
    }
    if any(row.repeats for row in members):
        trace["error_y"] = {
            "type": "data",
            "symmetric": False,
            "array": [(r.repeats.high - r.repeats.mean) * _share(r, per) if r.repeats else 0 for r in members],
            "arrayminus": [(r.repeats.mean - r.repeats.low) * _share(r, per) if r.repeats else 0 for r in members],
            "color": colour,
            "thickness": 1.5,
        }
    return trace


def _outline(symbol: str) -> dict[str, Any]:
    """Outline of a mark: open marks consist of it; filled ones get one in the card's colour."""
    return {"width": 1.6} if symbol.endswith("open") else {"width": 1, "color": "var(--card)"}


def _strip(lost: Sequence[TrialRow]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers+text",
        "name": "did not run",
        "x": list(range(len(lost))),
        "y": [0] * len(lost),
        "xaxis": "x2",
        "yaxis": "y2",
        "text": [f" {_caption(row)}" if len(lost) <= _STRIP else "" for row in lost],
        "textposition": "middle right",
        "textfont": {"size": 10.5, "color": "var(--muted)"},
        "customdata": [[row.number, row.description, row.why] for row in lost],
        "hovertemplate": "<b>trial %{customdata[0]}</b><br>%{customdata[1]}<br>%{customdata[2]}<extra></extra>",
        "marker": {"symbol": "x", "color": "var(--bad)", "size": 9},
    }


def _caption(row: TrialRow) -> str:
    roles = [name for name, holds in (("default", row.is_default), ("best", row.is_best)) if holds]
    return f"{', '.join(roles)} {row.label}".lstrip()


def _layout(simulated: bool, per: Per, lost: int, points: Sequence[tuple[float, float]]) -> dict[str, Any]:
    title = f"Output throughput per {_DENOMINATOR[per]} against interactivity"
    axis = AXIS | {"tickcolor": "var(--line)", "zeroline": False, "ticks": "outside"}
    strip = {"text": "did not run", "showarrow": False, "xref": "paper", "yref": "y2", "x": 0, "y": 0}
    return {
        **theme(title, simulated=simulated),
        "xaxis": axis
        | {"title": {"text": "tok/s per user (1 / TPOT)", "standoff": 6}, "anchor": "y"}
        | _range([x for x, _ in points], MARGIN[0]),
        "yaxis": axis
        | {"title": {"text": f"output tok/s per {_DENOMINATOR[per]}"}, "domain": [0.26 if lost else 0.1, 1]}
        | _range([y for _, y in points], MARGIN[1]),
        "xaxis2": {"visible": False, "anchor": "y2", "range": [-0.6, max(lost, _STRIP)], "fixedrange": True},
        "yaxis2": {"visible": False, "domain": [0, 0.07], "range": [-1, 1], "fixedrange": True},
        "legend": {"orientation": "h", "x": 0, "y": -0.01, "yanchor": "top"},
        "margin": {"l": 64, "r": 20, "t": 44, "b": 20},
        "hovermode": "closest",
        "annotations": [strip | {"xanchor": "right", "xshift": 52, "font": {"color": "var(--bad)"}}] if lost else [],
    }


def _range(values: Sequence[float], margin: float) -> dict[str, Any]:
    """An axis range that leaves room for labels beside the outermost points."""
    if not values:
        return {}
    low, high = min(values), max(values)
    room = (high - low or abs(high) or 1.0) * margin
    return {"range": [low - room, high + room]}
