"""The engines, by name."""

from __future__ import annotations

from manifests.engines.base import Engine
from manifests.engines.dynamo_sglang import DynamoSglangEngine
from manifests.engines.sglang import SglangEngine
from manifests.engines.simulated import SimulatedEngine
from manifests.errors import Refused
from manifests.findings import unknown

_ENGINES: dict[str, type[Engine]] = {e.name: e for e in (SimulatedEngine, SglangEngine, DynamoSglangEngine)}


def engine_names() -> tuple[str, ...]:
    """Names :func:`engine` knows, sorted."""
    return tuple(sorted(_ENGINES))


def engine(name: str) -> Engine:
    """The engine called ``name``.

    Raises:
        Refused: unknown name.
    """
    if name not in _ENGINES:
        raise Refused([unknown("engine", name, _ENGINES)])
    return _ENGINES[name]()
