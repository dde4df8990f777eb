"""Positions of a scatter chart's labels that overlap neither each other, nor a mark, nor a line."""

from __future__ import annotations

from collections.abc import Collection, Sequence

#: Margins beside the outermost points, horizontal and vertical, as shares of the points' range.
MARGIN = 0.16, 0.14
#: Size of the points' range in pixels (on a page of 1280), and size of a label's character.
_WIDTH, _HEIGHT = 585.0, 215.0
_CHARACTER, _LINE, _GAP = 5.8, 14.0, 9.0
#: Half the side of a mark, and half the width of a line.
_MARK, _STROKE = 7.0, 3.0
#: Overlap in square pixels at which a label is still readable.
_TOLERATED = 20.0

Point = tuple[float, float]
_Box = tuple[float, float, float, float]


def positions(
    points: Sequence[Point],
    texts: Sequence[str],
    must: Collection[int] = (),
    lines: Sequence[tuple[Point, Point]] = (),
) -> list[str | None]:
    """A plotly ``textposition`` for each point, None for one whose text would cover something.

    Args:
        points, texts: in the chart's units; texts may be empty.
        must: indices whose texts are placed first and never left out, at the position with the least overlap.
        lines: segments that are drawn, in the chart's units.

    Greedy: ``must``, then from the top down.
    """
    if not points:
        return []
    corners = [*points, *(end for line in lines for end in line)]
    low = min(x for x, _ in corners), min(y for _, y in corners)
    size = max(x for x, _ in corners) - low[0] or 1.0, max(y for _, y in corners) - low[1] or 1.0

    def pixel(point: Point) -> Point:
        return (point[0] - low[0]) / size[0] * _WIDTH, (point[1] - low[1]) / size[1] * _HEIGHT

    places = [pixel(point) for point in points]
    marks = [_around(place, _MARK) for place in places]
    taken = [box for start, end in lines for box in _stroke(pixel(start), pixel(end))]
    chosen: list[str | None] = [None] * len(points)
    for i in sorted(range(len(points)), key=lambda i: (i not in must, -places[i][1])):
        if not texts[i]:
            continue
        options = _options(*places[i], _CHARACTER * len(texts[i]))
        others = [*marks[:i], *marks[i + 1 :], *taken]
        name = min(options, key=lambda option: _cost(options[option], others))
        if i in must or _cost(options[name], others) <= _TOLERATED:
            chosen[i] = name
            taken.append(options[name])
    return chosen


def _around(place: Point, half: float) -> _Box:
    return place[0] - half, place[1] - half, place[0] + half, place[1] + half


def _stroke(start: Point, end: Point) -> list[_Box]:
    """A segment as a row of small boxes."""
    steps = max(1, round(max(abs(end[0] - start[0]), abs(end[1] - start[1])) / (2 * _STROKE)))
    return [
        _around((start[0] + (end[0] - start[0]) * k / steps, start[1] + (end[1] - start[1]) * k / steps), _STROKE)
        for k in range(steps + 1)
    ]


def _options(x: float, y: float, length: float) -> dict[str, _Box]:
    """The box in which plotly draws a text for each position; preferred positions first."""
    columns = {
        "center": (x - length / 2, x + length / 2),
        "right": (x + _GAP, x + _GAP + length),
        "left": (x - _GAP - length, x - _GAP),
    }
    rows = {
        "top": (y + _GAP, y + _GAP + _LINE),
        "bottom": (y - _GAP - _LINE, y - _GAP),
        "middle": (y - _LINE / 2, y + _LINE / 2),
    }
    return {
        f"{row} {column}": (columns[column][0], rows[row][0], columns[column][1], rows[row][1])
        for column in columns
        for row in rows
        if (row, column) != ("middle", "center")
    }


def _cost(box: _Box, others: Sequence[_Box]) -> float:
    """Overlapped area plus the area outside the plot; horizontally a few pixels outside are allowed."""
    overlap = sum(
        max(0.0, min(box[2], o[2]) - max(box[0], o[0])) * max(0.0, min(box[3], o[3]) - max(box[1], o[1]))
        for o in others
    )
    aside, above = MARGIN[0] * _WIDTH + _LINE, MARGIN[1] * _HEIGHT
    outside = max(0.0, -aside - box[0]) + max(0.0, box[2] - _WIDTH - aside)
    outside += max(0.0, -above - box[1]) + max(0.0, box[3] - _HEIGHT - above)
    return overlap + outside * _LINE
