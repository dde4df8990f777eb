"""The knobs that a sweep can vary; each knob is one object.

:data:`DIMENSIONS` holds the built-in ones. Form, request, search space, study, store, page, recommendation and report
derive from it. To add a knob, write a class and list it here (``docs/development.md``), or :func:`register` it
from another module before a request is read.

Prefill has no dimension of graph sizes, and decode none of the chunk: their workers do not use them.
"""

from __future__ import annotations

from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import unknown
from wideloop.tuning.dimensions.base import Bounds, Dimension, KnobRole
from wideloop.tuning.dimensions.chunk import PrefillChunk
from wideloop.tuning.dimensions.graphs import GraphBatch
from wideloop.tuning.dimensions.memory import MemoryFraction
from wideloop.tuning.dimensions.rebalancing import Rebalancing
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
    Rebalancing(),
]
#: Names of the dimensions that a sweep varies by default.
DEFAULT_NAMES = tuple(d.name for d in DIMENSIONS if d.by_default)


def get_dimension(name: str) -> Dimension:
    """The dimension of that name.

    Raises:
        Refused: unknown name; the finding names the nearest one.
    """
    for dimension in DIMENSIONS:
        if dimension.name == name:
            return dimension
    raise Refused([unknown("dimensions", name, [d.name for d in DIMENSIONS])])


def register(dimension: Dimension) -> None:
    """Make another dimension available in this process.

    Raises:
        ValueError: its name, or the name of one of its parameters, is in use.
    """
    names = {d.name for d in DIMENSIONS} | {p.name for d in DIMENSIONS for p in d.parameters}
    mine = {dimension.name, *(p.name for p in dimension.parameters)}
    if names & mine:
        raise ValueError(f"dimension {dimension.name}: {', '.join(sorted(names & mine))} exists already")
    DIMENSIONS.append(dimension)
