"""Where the labels of a scatter chart go, so that they cover neither each other nor a mark."""

from __future__ import annotations

from collections.abc import Sequence

#: Plot area in pixels that positions are chosen for (page of 1280), and the size of a character in it.
_WIDTH, _HEIGHT = 660.0, 280.0
_CHARACTER, _LINE, _GAP = 5.8, 14.0, 9.0

_Box = tuple[float, float, float, float]


def positions(points: Sequence[tuple[float, float]], texts: Sequence[str]) -> list[str]:
    """A plotly ``textposition`` for each point: above it, or wherever its text overlaps least.

    Greedy from the top down; texts may be empty. With all points on one spot any position is as bad.
    """
    places = _pixels(points)
    taken: list[_Box] = [(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    chosen = ["top center"] * len(points)
    for i in sorted(range(len(points)), key=lambda i: -places[i][1]):
        if not texts[i]:
            continue
        options = _options(*places[i], _CHARACTER * len(texts[i]))
        others = [*taken[:i], *taken[i + 1 :]]
        name = min(options, key=lambda option: _cost(options[option], others))
        chosen[i] = name
        taken.append(options[name])
    return chosen


def _pixels(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    if not points:
        return []
    xs, ys = [x for x, _ in points], [y for _, y in points]
    width, height = max(xs) - min(xs) or 1.0, max(ys) - min(ys) or 1.0
    return [((x - min(xs)) / width * _WIDTH, (y - min(ys)) / height * _HEIGHT) for x, y in points]


def _options(x: float, y: float, length: float) -> dict[str, _Box]:
    half = length / 2
    return {
        "top center": (x - half, y + _GAP, x + half, y + _GAP + _LINE),
        "bottom center": (x - half, y - _GAP - _LINE, x + half, y - _GAP),
        "middle right": (x + _GAP, y - _LINE / 2, x + _GAP + length, y + _LINE / 2),
        "middle left": (x - _GAP - length, y - _LINE / 2, x - _GAP, y + _LINE / 2),
    }


def _cost(box: _Box, others: Sequence[_Box]) -> float:
    """Overlapped area plus what leaves the plot sideways (a margin of one label is there, above all)."""
    overlap = sum(
        max(0.0, min(box[2], o[2]) - max(box[0], o[0])) * max(0.0, min(box[3], o[3]) - max(box[1], o[1]))
        for o in others
    )
    outside = max(0.0, -60 - box[0]) + max(0.0, box[2] - _WIDTH - 60)
    return overlap + outside * _LINE
