"""Reading a hardware profile from a YAML file, with findings for everything that is wrong in it.

A profile of one's own has the fields of the shipped ones (``manifests/hardware/*.yaml``)::

    title: 48 x H200, 6 nodes of 8 (3 prefill workers, 1 decode worker)
    gpu: H200-141G
    nodes: 6
    gpus_per_node: 8
    fabric: InfiniBand
    fabric_gb_s: 50
    rdma_resource: rdma/ib
    workers:
      prefill: {nodes: 1, gpus_per_node: 8, tp: 8, dp: 8, ep: 8}
      decode: {nodes: 3, gpus_per_node: 8, tp: 24, dp: 24, ep: 24}
    replicas: {prefill: 3}

``gpu`` is a key of ``gpus.yaml`` or a GPU's own fields; ``name`` is the file's unless given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from wideloop.manifests.errors import Refused, refuse
from wideloop.manifests.findings import Finding, invalid, unknown
from wideloop.manifests.hardware import GpuSpec, HardwareProfile, Role, WorkerLayout

_SUFFIXES = (".yaml", ".yml")
#: More than any profile; a larger file is another one.
_MAX_BYTES = 64 * 1024
_EXAMPLE = "manifests/hardware/h200-32.yaml is one to copy"


def read_profile(path: Path, gpus: Mapping[str, GpuSpec]) -> HardwareProfile:
    """The profile in a file.

    Args:
        gpus: that a profile may name by their keys.

    Raises:
        Refused: the file cannot be read, or is no profile.
    """
    document = _read(path)
    refuse(_key_findings(document))
    fields = {"name": path.stem, "title": path.stem, **document}
    if isinstance(fields.get("gpu"), str):
        if fields["gpu"] not in gpus:
            raise Refused([unknown("gpu", fields["gpu"], gpus)])
        fields["gpu"] = gpus[fields["gpu"]]
    try:
        profile = HardwareProfile.model_validate(fields)
    except ValidationError as error:
        raise Refused([_with_example(finding) for finding in invalid(error)]) from error
    refuse(_layout_findings(profile))
    return profile


def _read(path: Path) -> dict[str, Any]:
    if path.suffix not in _SUFFIXES or not path.is_file():
        raise Refused([_file(path, "is no YAML file", "Give the path of one that ends with .yaml")])
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise Refused([_file(path, f"is larger than {_MAX_BYTES} bytes, so it is no hardware profile", _EXAMPLE)])
        document = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())[:300]
        raise Refused([_file(path, f"cannot be read as YAML: {reason}", _EXAMPLE)]) from error
    if not isinstance(document, dict):
        raise Refused([_file(path, f"holds {type(document).__name__} where a profile is a mapping", _EXAMPLE)])
    return document


def _key_findings(document: Mapping[str, Any]) -> Iterator[Finding]:
    """Keys that nothing would read, with the nearest that is read."""
    yield from _unknown_keys(document, HardwareProfile, "")
    if isinstance(document.get("gpu"), dict):
        yield from _unknown_keys(document["gpu"], GpuSpec, "gpu.")
    for group in ("workers", "replicas"):
        roles = document.get(group)
        if not isinstance(roles, dict):
            continue
        yield from (unknown(f"{group}.{r}", str(r), get_args(Role)) for r in roles if r not in get_args(Role))
        for role, layout in roles.items():
            if isinstance(layout, dict):
                yield from _unknown_keys(layout, WorkerLayout, f"{group}.{role}.")


def _unknown_keys(given: Mapping[Any, Any], model: type[BaseModel], prefix: str) -> Iterator[Finding]:
    for key in given:
        if key not in model.model_fields:
            yield unknown(f"{prefix}{key}", str(key), model.model_fields)


def _layout_findings(profile: HardwareProfile) -> Iterator[Finding]:
    """Rules that hold for every model and every engine."""
    roles = set(profile.workers)
    if roles not in ({"prefill", "decode"}, {"aggregated"}):
        rule = "a profile has prefill and decode workers, or aggregated ones"
        yield _finding("workers", sorted(roles), rule, "Use prefill + decode, or aggregated alone")
    for role in profile.replicas:
        if role not in profile.workers:
            yield _finding(f"replicas.{role}", profile.replicas[role], "has no worker of that role", "Leave it out")
        elif profile.replicas[role] < 1:
            yield _finding(f"replicas.{role}", profile.replicas[role], "is less than one worker", "Use 1")
    for role, layout in profile.workers.items():
        yield from _worker_findings(profile, role, layout)
    needed = sum(layout.gpus * profile.replicas.get(role, 1) for role, layout in profile.workers.items())
    if needed > profile.gpus:
        rule = f"all workers together take {needed} GPUs, and {profile.nodes} nodes of {profile.gpus_per_node} have "
        nodes = -(-needed // profile.gpus_per_node)
        yield _finding("nodes", profile.nodes, f"{rule}{profile.gpus}", f"Use {nodes}, or fewer or smaller workers")


def _worker_findings(profile: HardwareProfile, role: str, layout: WorkerLayout) -> Iterator[Finding]:
    field = f"workers.{role}"
    if layout.gpus_per_node > profile.gpus_per_node:
        rule = f"a node has {profile.gpus_per_node} GPUs"
        yield _finding(f"{field}.gpus_per_node", layout.gpus_per_node, rule, f"Use {profile.gpus_per_node}")
    if layout.tp != layout.gpus:
        rule = f"must be the worker's GPUs: {layout.nodes} nodes x {layout.gpus_per_node}"
        yield _finding(f"{field}.tp", layout.tp, rule, f"Use {layout.gpus}")
    for name, size in (("ep", layout.ep), ("dp", layout.dp)):
        if layout.gpus % size:
            divisors = [d for d in range(1, layout.gpus + 1) if layout.gpus % d == 0]
            rule = f"must divide the worker's {layout.gpus} GPUs"
            yield _finding(f"{field}.{name}", size, rule, f"Use one of {', '.join(map(str, divisors))}")


def _with_example(finding: Finding) -> Finding:
    return finding.changed(suggestion=f"{finding.suggestion}: {_EXAMPLE}")


def _file(path: Path, rule: str, suggestion: str) -> Finding:
    return _finding("hardware", str(path), rule, suggestion)


def _finding(field: str, value: Any, rule: str, suggestion: str) -> Finding:
    return Finding(field=field, value=value, rule=rule, suggestion=suggestion)
