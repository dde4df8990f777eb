"""The engines, by name.

Another package adds one by the decorator ``@ENGINES.register("name")``, or by an entry point of the group
``wideloop.engines``. ``wideloop.tuning`` adds the simulated engine, which uses the models of that package.
"""

from __future__ import annotations

from wideloop.manifests.engines.base import Engine
from wideloop.manifests.registry import Registry

ENGINES: Registry[Engine] = Registry(
    "engine",
    "wideloop.engines",
    {
        "sglang": "wideloop.manifests.engines.sglang:SglangEngine",
        "dynamo-sglang": "wideloop.manifests.engines.dynamo_sglang:DynamoSglangEngine",
    },
)


def engine_names() -> tuple[str, ...]:
    """Names that :func:`get_engine` accepts, sorted."""
    return ENGINES.names()


def get_engine(name: str) -> Engine:
    """The engine called ``name``.

    Raises:
        Refused: unknown name.
    """
    return ENGINES.load(name)()
