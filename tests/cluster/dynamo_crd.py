"""CustomResourceDefinitions of Dynamo: DynamoGraphDeployment, versions v1alpha1 and v1beta1, and what pods need.

It is **not** the one that Dynamo's operator installs: that one cannot be had from a package registry, so this one
is written after the operator's API reference (docs.nvidia.com/dynamo, "Full Kubernetes CRD reference", 1.5). Pods,
containers, probes and environments have the schemas of the API server itself, so a misspelt field anywhere is an
error as it is there. Left out are fields that nothing here writes: autoscaling, ingress, checkpoints, fail-over,
KV transfer policy. ``DYNAMO_CRDS`` names a folder with the operator's own files to use instead.

Until the stand-in for the operator runs, nothing converts between the versions: v1alpha1 is validated but not kept.
"""

from __future__ import annotations

from typing import Any

from tests.cluster.openapi_schema import embedded

GROUP = "nvidia.com"
PLURAL = "dynamographdeployments"
VERSIONS = ("v1alpha1", "v1beta1")
KIND = "DynamoGraphDeployment"
#: The OpenAPI document of the API server that knows pod templates.
OPENAPI = "/openapi/v3/apis/apps/v1"

_CORE = "io.k8s.api.core.v1."
_NAME = {"type": "string", "minLength": 1, "maxLength": 63, "pattern": "^[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?$"}
_TEXT = {"type": "string"}
_FLAG = {"type": "boolean"}
_COUNT = {"type": "integer", "format": "int32", "minimum": 0}
_QUANTITY = {"x-kubernetes-int-or-string": True}
_TEXTS = {"type": "object", "additionalProperties": _TEXT}
_FRAMEWORK = {"type": "string", "enum": ["sglang", "vllm", "trtllm"]}
#: Cannot be changed once it is set.
_TYPE = {
    "type": "string",
    "enum": ["frontend", "worker", "prefill", "decode", "planner", "epp"],
    "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "type is immutable"}],
}
_STATE = {"type": "string", "enum": ["initializing", "pending", "successful", "failed"]}


def _object(required: tuple[str, ...] = (), /, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties} | ({"required": list(required)} if required else {})


def _list(items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, **more}


_NODES = {"type": "integer", "format": "int32", "minimum": 2}
_MODEL = _object(("name",), name={"type": "string", "minLength": 1}, revision=_TEXT)
_RESTART = _object(
    ("id",),
    id={"type": "string", "minLength": 1},
    strategy=_object(type={"type": "string", "enum": ["Sequential", "Parallel"]}, order=_list(_TEXT)),
)
_CONDITION = _object(
    ("type", "status", "lastTransitionTime", "reason", "message"),
    type=_TEXT,
    status={"type": "string", "enum": ["True", "False", "Unknown"]},
    lastTransitionTime={"type": "string", "format": "date-time"},
    reason={"type": "string", "minLength": 1},
    message=_TEXT,
    observedGeneration={"type": "integer", "format": "int64"},
)
_REPLICAS = _object(
    ("componentKind", "replicas", "updatedReplicas"),
    componentKind={"type": "string", "enum": ["PodClique", "PodCliqueScalingGroup", "Deployment", "LeaderWorkerSet"]},
    componentName=_TEXT,
    componentNames=_list(_TEXT),
    replicas=_COUNT,
    updatedReplicas=_COUNT,
    readyReplicas=_COUNT,
    availableReplicas=_COUNT,
)


def definitions(openapi: dict[str, Any]) -> list[dict[str, Any]]:
    """The CustomResourceDefinitions, with the pods of ``openapi``, the API server's document at :data:`OPENAPI`.

    Besides the graphs there is what workers say of themselves when they find each other through the API server.
    """
    graph = [
        _version("v1alpha1", _alpha(openapi), "services", storage=False, deprecated=True),
        _version("v1beta1", _beta(openapi), "components", storage=True),
    ]
    said = _object(("data",), data={"type": "object", "x-kubernetes-preserve-unknown-fields": True})
    schema = _object(apiVersion=_TEXT, kind=_TEXT, metadata={"type": "object"}, spec=said)
    worker = {"name": "v1alpha1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return [_definition(KIND, "dgd", graph), _definition("DynamoWorkerMetadata", "dwm", [worker])]


def _definition(kind: str, short: str, versions: list[dict[str, Any]]) -> dict[str, Any]:
    plural = f"{kind.lower()}s"
    names = {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower(), "shortNames": [short]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": names,
            "conversion": {"strategy": "None"},
            "versions": versions,
        },
    }


def _version(name: str, spec: dict[str, Any], parts: str, **more: Any) -> dict[str, Any]:
    status = _object(
        ("state",),
        state=_STATE | {"default": "initializing"},
        observedGeneration={"type": "integer", "format": "int64"},
        conditions=_list(_CONDITION, **{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
        restart=_object(observedID=_TEXT, phase=_TEXT, inProgress=_list(_TEXT)),
        **{parts: {"type": "object", "additionalProperties": _REPLICAS}},
    )
    schema = _object(apiVersion=_TEXT, kind=_TEXT, metadata={"type": "object"}, spec=spec, status=status)
    ready = '.status.conditions[?(@.type=="Ready")].status'
    return {
        "name": name,
        "served": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
        "additionalPrinterColumns": [
            {"name": "Ready", "type": "string", "jsonPath": ready},
            {"name": "Backend", "type": "string", "jsonPath": ".spec.backendFramework"},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ],
        **more,
    }


def _beta(openapi: dict[str, Any]) -> dict[str, Any]:
    component = _object(
        ("name",),
        name=_NAME,
        type=_TYPE,
        globalDynamoNamespace=_FLAG,
        podTemplate=embedded(openapi, _CORE + "PodTemplateSpec"),
        replicas=_COUNT,
        minAvailable=_COUNT,
        multinode=_object(nodeCount=_NODES | {"default": 2}),
        sharedMemorySize=_QUANTITY,
        modelRef=_MODEL,
        scalingAdapter={"type": "object"},
        frontendSidecar=_TEXT,
        compilationCache=_object(("pvcName",), pvcName={"type": "string", "minLength": 1}, mountPath=_TEXT),
        runtimeVersionOverride=_TEXT,
        topologyConstraint=_object(("packDomain",), packDomain=_TEXT),
    )
    keyed = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "maxItems": 25}
    return _object(
        annotations=_TEXTS,
        labels=_TEXTS,
        components=_list(component, **keyed),
        env=_list(embedded(openapi, _CORE + "EnvVar")),
        backendFramework=_FRAMEWORK,
        priorityClassName=_TEXT,
        restart=_RESTART,
        topologyConstraint=_object(("clusterTopologyName",), clusterTopologyName=_TEXT, packDomain=_TEXT),
    )


def _alpha(openapi: dict[str, Any]) -> dict[str, Any]:
    item = _object(cpu=_TEXT, memory=_TEXT, gpu=_TEXT, gpuType=_TEXT, custom=_TEXTS)
    pod = embedded(openapi, _CORE + "PodSpec")
    pod["properties"]["mainContainer"] = embedded(openapi, _CORE + "Container")
    del pod["required"]
    del pod["properties"]["mainContainer"]["required"]
    environment = _list(embedded(openapi, _CORE + "EnvVar"))
    probe = embedded(openapi, _CORE + "Probe")
    service = _object(
        annotations=_TEXTS,
        labels=_TEXTS,
        serviceName=_TEXT,
        componentType=_TEXT,
        subComponentType=_TEXT,
        dynamoNamespace=_TEXT,
        globalDynamoNamespace=_FLAG,
        resources=_object(requests=item, limits=item, claims=_list(embedded(openapi, _CORE + "ResourceClaim"))),
        envs=environment,
        envFromSecret=_TEXT,
        volumeMounts=_list(_object(("name",), name=_TEXT, mountPoint=_TEXT, useAsCompilationCache=_FLAG)),
        modelRef=_MODEL,
        sharedMemory=_object(disabled=_FLAG, size=_QUANTITY),
        extraPodMetadata=_object(annotations=_TEXTS, labels=_TEXTS),
        extraPodSpec=pod,
        livenessProbe=probe,
        readinessProbe=probe,
        replicas=_COUNT,
        multinode=_object(("nodeCount",), nodeCount=_NODES),
    )
    claim = _object(("name",), name=_TEXT, create=_FLAG, storageClass=_TEXT, size=_QUANTITY, volumeAccessMode=_TEXT)
    return _object(
        annotations=_TEXTS,
        labels=_TEXTS,
        pvcs=_list(claim, maxItems=100),
        services={"type": "object", "maxProperties": 25, "additionalProperties": service},
        envs=environment,
        backendFramework=_FRAMEWORK,
        restart=_RESTART,
    )
