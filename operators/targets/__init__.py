"""Where engines run. ``open_target(name)`` gives the implementation; nothing else names one."""

from __future__ import annotations

from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import unknown
from wideloop.operators.settings import settings
from wideloop.operators.targets.base import Target

_NAMES = ("local", "dynamo")


def target_names() -> tuple[str, ...]:
    """The targets there are."""
    return _NAMES


def configured_targets() -> tuple[str, ...]:
    """Those of them that this process could have deployments on: a cluster only where it knows one."""
    from wideloop.operators.targets.kubernetes.connection import is_configured

    return tuple(n for n in _NAMES if n != "dynamo" or is_configured(settings().kubeconfig))


def open_target(name: str) -> Target:
    """The target called ``name``, with the settings of this process.

    Raises:
        Refused: there is none of that name.
    """
    if name == "local":
        from wideloop.operators.targets.local.target import LocalTarget

        return LocalTarget(settings())
    if name == "dynamo":
        from wideloop.operators.targets.dynamo import DynamoTarget

        return DynamoTarget(settings())
    raise Refused([unknown("target", name, _NAMES)])


#: The function's name until all callers use the new one.
target = open_target
