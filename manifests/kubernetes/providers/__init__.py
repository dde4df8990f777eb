"""What differs between providers of clusters: overlays of the cluster's options, as data.

An overlay is a YAML file of :class:`~wideloop.manifests.kubernetes.options.ClusterOptions` fields, each line with its
source. A hardware profile names its provider's; ``WIDELOOP_CLUSTER__PROVIDER`` names another one, or a file.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import Finding, invalid, unknown
from wideloop.manifests.kubernetes.options import ClusterOptions

_FOLDER = Path(__file__).parent
#: No overlay, whatever the hardware profile names; also of options that hold theirs already.
NONE = "none"


def provider_names() -> tuple[str, ...]:
    """The overlays that ship with the project."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def overlay(name_or_path: str) -> dict[str, Any]:
    """The fields of an overlay, by its name or by the path of its YAML file.

    Raises:
        Refused: there is none of that name, or the file is no overlay.
    """
    if name_or_path == NONE:
        return {}
    path = _FOLDER / f"{name_or_path}.yaml" if name_or_path in provider_names() else Path(name_or_path)
    if "/" not in str(path) or not path.is_file():
        raise Refused([unknown("provider", name_or_path, [*provider_names(), NONE])])
    return dict(_read(path))


def with_provider(options: ClusterOptions, spec: DeploymentSpec) -> ClusterOptions:
    """``options`` over the overlay of the provider on which a deployment runs.

    The simulated engine moves no data between nodes: it gets only the overlay that the options name themselves.

    Raises:
        Refused: as :func:`overlay`.
    """
    of_hardware = NONE if get_engine(spec.engine).simulated else spec.hardware.provider
    return with_overlay(options, options.provider or of_hardware or NONE)


def with_overlay(options: ClusterOptions, name: str) -> ClusterOptions:
    """``options`` over the overlay ``name``.

    Mappings are merged key by key, lists are joined, and of other fields the option's value counts when it was set.

    Raises:
        Refused: as :func:`overlay`.
    """
    lower = overlay(name)
    merged = {name: _over(options, name, value) for name, value in lower.items()}
    return options.changed(**merged, provider=NONE)


def _over(options: ClusterOptions, name: str, lower: Any) -> Any:
    upper = getattr(options, name)
    if isinstance(upper, dict):
        return {**lower, **upper}
    if isinstance(upper, tuple):
        return (*lower, *(item for item in upper if item not in lower))
    return upper if name in options.model_fields_set else lower


@lru_cache
def _read(path: Path) -> dict[str, Any]:
    try:
        fields = yaml.safe_load(path.read_text()) or {}
        if not isinstance(fields, dict):
            raise Refused([_unusable(path, f"is {type(fields).__name__}, and an overlay is a mapping of options")])
        unknown_names = [unknown("provider", str(name), ClusterOptions.model_fields) for name in fields]
        if findings := [f for f in unknown_names if f.value not in ClusterOptions.model_fields]:
            raise Refused(findings)
        options = ClusterOptions.model_validate(fields)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Refused([_unusable(path, f"cannot be read: {error}")]) from error
    except ValidationError as error:
        raise Refused(invalid(error, str(path))) from error
    return {name: getattr(options, name) for name in fields}


def _unusable(path: Path, rule: str) -> Finding:
    suggestion = "Give a YAML file of cluster options, e.g. one line: worker_env: {NCCL_DEBUG: INFO}"
    return Finding(field="provider", value=str(path), rule=rule, suggestion=suggestion)
