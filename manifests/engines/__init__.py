"""The engines, by name."""

from __future__ import annotations

from wideloop.manifests.engines.base import Engine
from wideloop.manifests.engines.dynamo_sglang import DynamoSglangEngine
from wideloop.manifests.engines.sglang import SglangEngine
from wideloop.manifests.engines.simulated import SimulatedEngine
from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import unknown

_ENGINES: dict[str, type[Engine]] = {e.name: e for e in (SimulatedEngine, SglangEngine, DynamoSglangEngine)}


def engine_names() -> tuple[str, ...]:
    """Names that :func:`get_engine` accepts, sorted."""
    return tuple(sorted(_ENGINES))


def get_engine(name: str) -> Engine:
    """The engine called ``name``.

    Raises:
        Refused: unknown name.
    """
    if name not in _ENGINES:
        raise Refused([unknown("engine", name, _ENGINES)])
    return _ENGINES[name]()


#: The function's name until all callers use the new one.
engine = get_engine
