"""The spec of a graph of v1alpha1 as one of v1beta1, and back as far as anything here reads it."""

from __future__ import annotations

import copy
from typing import Any

Document = dict[str, Any]


def from_alpha(spec: Document) -> Document:
    """A v1beta1 spec of a v1alpha1 one: what the operator's conversion does, as far as anything here writes it."""
    claims = [
        {"name": claim["name"], "persistentVolumeClaim": {"claimName": claim["name"]}} for claim in spec.get("pvcs", ())
    ]
    components = [_from_service(name, one, claims) for name, one in spec.get("services", {}).items()]
    kept = {key: spec[key] for key in ("annotations", "labels", "backendFramework") if key in spec}
    return kept | ({"env": spec["envs"]} if "envs" in spec else {}) | {"components": components}


def to_alpha(spec: Document) -> Document:
    """A v1alpha1 spec of a v1beta1 one: each component with its pod as ``extraPodSpec``."""
    kept = {key: spec[key] for key in ("annotations", "labels", "backendFramework") if key in spec}
    services = {one["name"]: _to_service(one) for one in spec.get("components", ())}
    return kept | ({"envs": spec["env"]} if "env" in spec else {}) | {"services": services}


def _to_service(component: Document) -> Document:
    pod = dict(component.get("podTemplate", {}).get("spec", {}))
    containers = [dict(one) for one in pod.get("containers", ())]
    main = next((one for one in containers if one["name"] == "main"), {})
    pod["containers"] = [one for one in containers if one is not main]
    pod["mainContainer"] = main
    kept = {key: component[key] for key in ("replicas", "multinode") if key in component}
    return kept | {"componentType": component.get("type", ""), "extraPodSpec": pod}


def _from_service(name: str, service: Document, claims: list[Document]) -> Document:
    pod = copy.deepcopy(service.get("extraPodSpec", {}))
    main = {"name": "main"} | pod.pop("mainContainer", {})
    main["env"] = [*service.get("envs", ()), *main.get("env", ())]
    if secret := service.get("envFromSecret"):
        main["envFrom"] = [*main.get("envFrom", ()), {"secretRef": {"name": secret}}]
    mounts = [{"name": one["name"], "mountPath": one["mountPoint"]} for one in service.get("volumeMounts", ())]
    main["volumeMounts"] = [*main.get("volumeMounts", ()), *mounts]
    used = {one["name"] for one in mounts}
    pod["volumes"] = [*pod.get("volumes", ()), *(claim for claim in claims if claim["name"] in used)]
    for part, wanted in service.get("resources", {}).items():
        main.setdefault("resources", {})[part] = wanted if part == "claims" else _resources(wanted)
    for probe in ("livenessProbe", "readinessProbe"):
        if probe in service:
            main[probe] = service[probe]
    pod["containers"] = [*pod.get("containers", ()), main]
    memory = service.get("sharedMemory", {})
    kind = service.get("subComponentType") or service.get("componentType", "")
    template = {"metadata": service.get("extraPodMetadata", {}), "spec": pod}
    result = {"name": name, "podTemplate": template} | ({"type": kind} if kind else {})
    if memory:
        result["sharedMemorySize"] = "0" if memory.get("disabled") else memory["size"]
    return result | {key: service[key] for key in ("replicas", "multinode") if key in service}


def _resources(wanted: Document) -> dict[str, str]:
    """Names as pods have them: ``gpu`` is NVIDIA's, ``custom`` ones are what they are called."""
    found: dict[str, str] = {key: wanted[key] for key in ("cpu", "memory") if key in wanted}
    if "gpu" in wanted:
        found[wanted.get("gpuType") or "nvidia.com/gpu"] = wanted["gpu"]
    found.update(wanted.get("custom", {}))
    return found
