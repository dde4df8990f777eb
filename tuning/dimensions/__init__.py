"""The knobs that a sweep can vary, each of them one object.

:data:`DIMENSIONS` holds those that ship. Form, request, search space, study, store, page, recommendation and report
derive from it; to add a knob is to write a class and to list it here (``docs/development.md``), or to
:func:`register` it from elsewhere before a request is read.

Prefill has no dimension of graph sizes, and decode none of the chunk: their workers do not use them.
"""

from __future__ import annotations

from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import unknown
from wideloop.tuning.dimensions.base import Bounds, Dimension, KnobRole
from wideloop.tuning.dimensions.chunk import PrefillChunk
from wideloop.tuning.dimensions.graphs import GraphBatch
from wideloop.tuning.dimensions.memory import MemoryFraction
from wideloop.tuning.dimensions.redundancy import RedundantSlots

__all__ = ["DEFAULT_NAMES", "DIMENSIONS", "Bounds", "Dimension", "KnobRole", "get_dimension", "register"]

#: Every dimension, in the order in which tables show them. Names are stored, in studies too: they do not change.
DIMENSIONS: list[Dimension] = [
    RedundantSlots("all"),
    MemoryFraction("decode"),
    GraphBatch(),
    PrefillChunk(),
    RedundantSlots("prefill"),
    RedundantSlots("decode"),
    MemoryFraction("prefill"),
]
#: What a sweep varies when it is not told otherwise.
DEFAULT_NAMES = tuple(d.name for d in DIMENSIONS if d.by_default)


def get_dimension(name: str) -> Dimension:
    """The dimension of that name.

    Raises:
        Refused: there is none; says the nearest.
    """
    for dimension in DIMENSIONS:
        if dimension.name == name:
            return dimension
    raise Refused([unknown("dimensions", name, [d.name for d in DIMENSIONS])])


def register(dimension: Dimension) -> None:
    """Make another dimension available in this process.

    Raises:
        ValueError: there is one of that name, or one of its parameters is another's.
    """
    names = {d.name for d in DIMENSIONS} | {p.name for d in DIMENSIONS for p in d.parameters}
    mine = {dimension.name, *(p.name for p in dimension.parameters)}
    if names & mine:
        raise ValueError(f"dimension {dimension.name}: {', '.join(sorted(names & mine))} exists already")
    DIMENSIONS.append(dimension)
