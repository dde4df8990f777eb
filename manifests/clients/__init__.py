"""The load generators, by name."""

from __future__ import annotations

from wideloop.manifests.clients.base import LoadGenerator
from wideloop.manifests.registry import Registry

LOAD_GENERATORS: Registry[LoadGenerator] = Registry(
    "client", "wideloop.load_generators", {"aiperf": "wideloop.manifests.clients.aiperf:Aiperf"}
)


def load_generator_names() -> tuple[str, ...]:
    """Names that :func:`get_load_generator` takes, sorted."""
    return LOAD_GENERATORS.names()


def get_load_generator(name: str) -> LoadGenerator:
    """The load generator called ``name``.

    Raises:
        Refused: unknown name.
    """
    return LOAD_GENERATORS.load(name)()
