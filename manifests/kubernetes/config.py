"""The ConfigMap of a deployment: its specification, as requested and as its pods see it, and its placements."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wideloop.manifests.deployment import DeploymentSpec, WorkerSpec
from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import Finding
from wideloop.manifests.kubernetes.labels import SPEC_KEY, labels
from wideloop.manifests.kubernetes.options import ClusterOptions

#: Folder in a pod where the ConfigMap's keys are mounted as files.
MOUNT = "/wideloop/config"
#: The specification with the paths that hold inside a pod.
POD_SPEC_KEY = "worker-spec.json"
#: Largest ConfigMap that an API server accepts, all keys together.
MAX_BYTES = 1024 * 1024


def config_map_name(deployment: str) -> str:
    """Name of a deployment's ConfigMap."""
    return f"{deployment}-config"


def config_map(spec: DeploymentSpec, options: ClusterOptions) -> dict[str, Any]:
    """The ConfigMap of ``spec``.

    Raises:
        Refused: a placement cannot be read here, or all of them are too large for a ConfigMap.
    """
    data = {SPEC_KEY: spec.model_dump_json(), POD_SPEC_KEY: in_pods(spec).model_dump_json(), **_placements(spec)}
    size = sum(len(text.encode()) for text in data.values())
    if size > MAX_BYTES:
        rule = f"placements and specification together are {size} bytes, and a ConfigMap takes {MAX_BYTES}"
        raise Refused([_finding(spec.name, rule, "Place without redundant experts, or fewer of them")])
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": config_map_name(spec.name),
            "namespace": options.namespace,
            "labels": labels(spec.name),
        },
        "data": data,
    }


def in_pods(spec: DeploymentSpec) -> DeploymentSpec:
    """``spec`` with the placements' paths as pods see them."""

    def moved(worker: WorkerSpec) -> WorkerSpec:
        if worker.knobs.expert_placement is None:
            return worker
        path = f"{MOUNT}/{_placement_key(worker)}"
        return worker.changed(knobs=worker.knobs.changed(expert_placement=path))

    return spec.changed(workers=tuple(map(moved, spec.workers)))


def _placement_key(worker: WorkerSpec) -> str:
    return f"placement-{worker.role}.json"


def _placements(spec: DeploymentSpec) -> dict[str, str]:
    placements: dict[str, str] = {}
    for worker in spec.workers:
        path = worker.knobs.expert_placement
        if path is None:
            continue
        try:
            placements[_placement_key(worker)] = Path(path).read_text()
        except (OSError, UnicodeDecodeError) as error:
            rule = f"cannot be read as text where the deployment is made: {error}"
            suggestion = "Give a placement as JSON, at a path that every Airflow worker can read"
            raise Refused([_finding(path, rule, suggestion, f"{worker.role}.expert_placement")]) from error
    return placements


def _finding(value: str, rule: str, suggestion: str, field: str = "expert_placement") -> Finding:
    return Finding(field=field, value=value, rule=rule, suggestion=suggestion)
