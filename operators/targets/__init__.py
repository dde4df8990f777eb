"""Where engines run: the target seam, and the targets there are.

``open_target(name)`` gives an implementation; nothing else names one. Other packages offer targets as entry points of
the group ``wideloop.targets``; a test registers one with ``@TARGETS.register("example")``.
"""

from __future__ import annotations

import wideloop.tuning  # noqa: F401  # It registers the simulated engine, which targets look up by name.
from wideloop.manifests.registry import Registry
from wideloop.operators.settings import settings
from wideloop.operators.targets.base import (
    ClientStatus,
    Endpoints,
    Image,
    Owned,
    Owner,
    Preparation,
    Status,
    Target,
    Weights,
)

__all__ = [
    "TARGETS",
    "ClientStatus",
    "Endpoints",
    "Image",
    "Owned",
    "Owner",
    "Preparation",
    "Status",
    "Target",
    "Weights",
    "configured_targets",
    "open_target",
    "target_names",
]

TARGETS: Registry[Target] = Registry(
    "target",
    "wideloop.targets",
    {
        "local": "wideloop.operators.targets.local.target:LocalTarget",
        "dynamo": "wideloop.operators.targets.dynamo.target:DynamoTarget",
    },
)


def target_names() -> tuple[str, ...]:
    """The targets there are."""
    return TARGETS.names()


def configured_targets() -> tuple[str, ...]:
    """Those of them that this process could have deployments on."""
    return tuple(name for name in target_names() if TARGETS.load(name).is_configured(settings()))


def open_target(name: str) -> Target:
    """The target called ``name``, with the settings of this process.

    Raises:
        Refused: there is none of that name.
    """
    return TARGETS.load(name)(settings())
