"""The objects that stand for the components of a DynamoGraphDeployment, as pure functions."""

from __future__ import annotations

import copy
import re
from typing import Any

from tests.cluster import leader_worker_set

Document = dict[str, Any]

NAME_LABEL = "nvidia.com/dynamo-graph-deployment-name"
FRONTEND_PORT = 8000
SYSTEM_PORT = 9090
_NIXL_PORT = 19090
_FPM_PORT = 20380
_DIST_PORT = 29500
_WORKERS = ("worker", "prefill", "decode")


class Invalid(Exception):
    """A graph that the operator's admission would refuse."""


def documents(graph: Document) -> dict[str, list[Document]]:
    """Deployments or LeaderWorkerSets, and Services, by the name of the component they stand for (spec of v1beta1).

    Raises:
        Invalid: a rule of the operator's admission is broken.
    """
    return {one["name"]: _component(graph, one) for one in graph["spec"].get("components", ())}


def shared(graph: Document) -> list[Document]:
    """What lets the pods of a graph find each other through the API server: an account and what it may do."""
    account, name = _account(graph), graph["metadata"]["name"]
    labels = {NAME_LABEL: name}
    metadata = {"name": account, "labels": labels}
    looked_at = ["get", "list", "watch"]
    rules = [
        {"apiGroups": [""], "resources": ["endpoints", "pods"], "verbs": looked_at},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": looked_at},
        {
            "apiGroups": ["nvidia.com"],
            "resources": ["dynamoworkermetadatas"],
            "verbs": [*looked_at, "create", "update", "patch", "delete"],
        },
    ]
    group = "rbac.authorization.k8s.io"
    subject = {"kind": "ServiceAccount", "name": account, "namespace": graph["metadata"]["namespace"]}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": rules},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": account},
            "subjects": [subject],
        },
    ]


def _account(graph: Document) -> str:
    return f"{graph['metadata']['name']}-k8s-service-discovery"


def _component(graph: Document, component: Document) -> list[Document]:
    base = f"{graph['metadata']['name']}-{component['name'].lower()}"
    nodes = component.get("multinode", {}).get("nodeCount", 1)
    replicas = component.get("replicas", 1)
    if nodes == 1:
        labels = _labels(graph, component) | {"nvidia.com/selector": base}
        workload = _workload("Deployment", base, labels, _template(graph, component, labels), replicas)
        return [workload, _service(graph, component, base)]
    return [_service(graph, component, base), _group(graph, component, f"{base}-0", replicas, nodes)]


def _group(graph: Document, component: Document, name: str, replicas: int, nodes: int) -> Document:
    """The workers of several nodes: each a leader (rank 0, with probes) and the other nodes (without)."""
    labels = _labels(graph, component)
    leader, worker = (_template(graph, component, labels) for _ in range(2))
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        _main(worker).pop(probe, None)
    _add_flags(_main(leader), nodes, "0")
    _add_flags(_main(worker), nodes, "$(LWS_WORKER_INDEX)")
    return leader_worker_set.group(name, labels, replicas, nodes, leader, worker)


def _add_flags(main: Document, nodes: int, rank: str) -> None:
    """What tells SGLang of the other nodes, at the end of a Python command or of a shell's script."""
    leader = f"$(LWS_LEADER_ADDRESS):{_DIST_PORT}"
    flags = ["--dist-init-addr", leader, "--nnodes", str(nodes), "--node-rank", rank]
    if main.get("command", [""])[0] in ("sh", "bash", "/bin/sh", "/bin/bash"):
        main["args"][-1] += " " + " ".join(flags)
    else:
        main["args"] = [*main.get("args", ()), *flags]


def _workload(kind: str, name: str, labels: dict[str, str], template: Document, replicas: int) -> Document:
    selector = {"nvidia.com/selector": labels["nvidia.com/selector"]}
    spec = {"replicas": replicas, "selector": {"matchLabels": selector}, "template": template}
    return _object(kind, "apps/v1", name, labels, spec)


def _service(graph: Document, component: Document, name: str) -> Document:
    """How a component is reached; Dynamo's discovery looks for services with these labels."""
    port = _port("http", FRONTEND_PORT) if component.get("type") == "frontend" else _port("system", SYSTEM_PORT)
    selector = {
        "nvidia.com/dynamo-component": component["name"],
        "nvidia.com/dynamo-component-type": component.get("type", ""),
        "nvidia.com/dynamo-namespace": _namespace(graph),
    }
    found = {"nvidia.com/dynamo-discovery-backend": "kubernetes", "nvidia.com/dynamo-discovery-enabled": "true"}
    spec = {"selector": selector, "ports": [port]}
    return _object("Service", "v1", name, _labels(graph, component) | found, spec)


def _object(kind: str, version: str, name: str, labels: dict[str, str], spec: Document) -> Document:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": labels}, "spec": spec}


def _port(name: str, number: int) -> Document:
    return {"name": name, "port": number, "targetPort": number, "protocol": "TCP"}


def _namespace(graph: Document) -> str:
    """Dynamo's namespace of a graph."""
    return f"{graph['metadata']['namespace']}-{graph['metadata']['name'].replace('.', '-')}"


def _labels(graph: Document, component: Document) -> dict[str, str]:
    found = dict(graph["spec"].get("labels", {}))
    kind = component.get("type", "")
    found |= {
        NAME_LABEL: graph["metadata"]["name"],
        "nvidia.com/dynamo-component": component["name"],
        "nvidia.com/dynamo-component-type": kind,
        "nvidia.com/dynamo-namespace": _namespace(graph),
        "nvidia.com/metrics-enabled": "true",
    }
    return found | ({"nvidia.com/dynamo-component-class": "worker"} if kind in _WORKERS else {})


def _template(graph: Document, component: Document, labels: dict[str, str]) -> Document:
    """The pod template of a component with what the operator adds to its container ``main``."""
    template = copy.deepcopy(component.get("podTemplate", {}))
    metadata = template.setdefault("metadata", {})
    metadata["labels"] = dict(graph["spec"].get("labels", {})) | metadata.get("labels", {}) | labels
    metadata["annotations"] = dict(graph["spec"].get("annotations", {})) | metadata.get("annotations", {})
    spec = template.setdefault("spec", {"containers": []})
    spec.setdefault("terminationGracePeriodSeconds", 60)
    spec.setdefault("serviceAccountName", _account(graph))
    if graph["spec"].get("priorityClassName"):
        spec.setdefault("priorityClassName", graph["spec"]["priorityClassName"])
    main = _main(template)
    defaults = _frontend() if component.get("type") == "frontend" else _worker()
    mine = {one["name"]: one for one in [*_environment(graph, component), *defaults.pop("env")]}
    theirs = {one["name"]: one for one in [*graph["spec"].get("env", ()), *main.get("env", ())]}
    for key, value in defaults.items():
        main.setdefault(key, value)
    # As the operator does: a variable that uses one with a later name does not get its value.
    main["env"] = sorted((mine | theirs).values(), key=lambda one: str(one["name"]))
    if not main.get("image"):
        raise Invalid(f"component {component['name']}: container main needs an image")
    if not component.get("runtimeVersionOverride") and not re.search(r":v?\d+\.\d+\.\d+", main["image"]):
        rule = "runtimeVersionOverride is required when the image's tag is not a semantic version"
        raise Invalid(f"component {component['name']}: {rule} ({main['image']})")
    _shared_memory(spec, main, component.get("sharedMemorySize", "8Gi"))
    return template


def _main(template: Document) -> Document:
    containers = template["spec"].setdefault("containers", [])
    main: Document | None = next((one for one in containers if one["name"] == "main"), None)
    if main is None:
        main = {"name": "main"}
        containers.insert(0, main)
    return main


def _environment(graph: Document, component: Document) -> list[Document]:
    fields = {"POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace", "POD_UID": "metadata.uid"}
    values = {
        "DYN_NAMESPACE": _namespace(graph),
        "DYN_COMPONENT": component.get("type", ""),
        "DYN_PARENT_DGD_K8S_NAME": graph["metadata"]["name"],
        "DYN_PARENT_DGD_K8S_NAMESPACE": graph["metadata"]["namespace"],
        "DYN_DISCOVERY_BACKEND": "kubernetes",
    }
    found = [{"name": name, "value": value} for name, value in values.items()]
    return found + [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()]


def _values(values: dict[str, str | int]) -> list[Document]:
    return [{"name": name, "value": str(value)} for name, value in values.items()]


def _frontend() -> Document:
    def probe(path: str, delay_s: int, timeout_s: int) -> Document:
        action = {"path": path, "port": "http"}
        times = {"initialDelaySeconds": delay_s, "periodSeconds": 10, "timeoutSeconds": timeout_s}
        return {"httpGet": action, "failureThreshold": 3} | times

    return {
        "command": ["python3"],
        "args": ["-m", "dynamo.frontend"],
        "ports": [{"name": "http", "containerPort": FRONTEND_PORT, "protocol": "TCP"}],
        "livenessProbe": probe("/live", 15, 1),
        "readinessProbe": probe("/health", 10, 3),
        "env": _values({"DYNAMO_PORT": FRONTEND_PORT, "DYN_HTTP_PORT": FRONTEND_PORT}),
    }


def _worker() -> Document:
    def probe(path: str, period_s: int, timeout_s: int, failures: int) -> Document:
        action = {"path": path, "port": "system"}
        times = {"periodSeconds": period_s, "timeoutSeconds": timeout_s, "failureThreshold": failures}
        return {"httpGet": action} | times

    return {
        "ports": [
            {"name": "system", "containerPort": SYSTEM_PORT, "protocol": "TCP"},
            {"name": "nixl", "containerPort": _NIXL_PORT, "protocol": "TCP"},
        ],
        "livenessProbe": probe("/live", 5, 4, 1),
        "readinessProbe": probe("/health", 10, 4, 3),
        "startupProbe": probe("/live", 10, 5, 720),
        "env": _values(
            {
                "DYN_SYSTEM_ENABLED": "true",
                "DYN_SYSTEM_USE_ENDPOINT_HEALTH_STATUS": '["generate"]',
                "DYN_SYSTEM_PORT": SYSTEM_PORT,
                "DYN_HEALTH_CHECK_ENABLED": "false",
                "DYN_FORWARDPASS_METRIC_PORT": _FPM_PORT,
            }
        ),
    }


def _shared_memory(spec: Document, main: Document, size: str | int) -> None:
    if str(size) == "0" or any(one["mountPath"] == "/dev/shm" for one in main.get("volumeMounts", ())):
        return
    volume = {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": str(size)}}
    spec["volumes"] = [*spec.get("volumes", ()), volume]
    main["volumeMounts"] = [*main.get("volumeMounts", ()), {"name": "shared-memory", "mountPath": "/dev/shm"}]
