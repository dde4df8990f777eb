"""A stand-in for NVIDIA's DRA driver: channels of an NVLink domain on its nodes, and the claim template of each domain.

The real scheduler allocates the channels, and the real controllers make a claim for each pod.
"""

from __future__ import annotations

from typing import Any

from tests.cluster.agent.api import Api, ApiError

Document = dict[str, Any]

DRIVER = "compute-domain.nvidia.com"
DEVICE_CLASS = "compute-domain-default-channel.nvidia.com"
#: GPU feature discovery's label of the nodes of one NVLink domain.
CLIQUE = "nvidia.com/gpu.clique"
_DOMAINS = "/apis/resource.nvidia.com/v1beta1/computedomains"


def device_class() -> Document:
    """The class of the channels."""
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceClass",
        "metadata": {"name": DEVICE_CLASS},
        "spec": {"selectors": [{"cel": {"expression": f"device.driver == '{DRIVER}'"}}]},
    }


async def offer_channel(api: Api, node: Document) -> None:
    """The slice with the one channel of ``node``, where it is in an NVLink domain; it goes with the node."""
    name, labels = node["metadata"]["name"], node["metadata"].get("labels", {})
    if CLIQUE not in labels:
        return
    owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": node["metadata"]["uid"]}
    document = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": f"{name}-channel", "ownerReferences": [owner]},
        "spec": {
            "driver": DRIVER,
            "nodeName": name,
            "pool": {"name": name, "generation": 1, "resourceSliceCount": 1},
            "devices": [{"name": "channel-0"}],
        },
    }
    await api.create("/apis/resource.k8s.io/v1/resourceslices", document)


async def make_templates(api: Api) -> None:
    """Make the ResourceClaimTemplate that each ComputeDomain names, for ever."""
    async for kind, found in api.watch(_DOMAINS):
        for domain in found if kind == "LIST" else [found]:
            if kind != "DELETED":
                await _make_template(api, domain)


async def _make_template(api: Api, domain: Document) -> None:
    metadata = domain["metadata"]
    owner = {"apiVersion": domain.get("apiVersion", "resource.nvidia.com/v1beta1"), "kind": "ComputeDomain"}
    owner |= {"name": metadata["name"], "uid": metadata["uid"]}
    request = {"name": "channel", "exactly": {"deviceClassName": DEVICE_CLASS}}
    document = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {
            "name": domain["spec"]["channel"]["resourceClaimTemplate"]["name"],
            "ownerReferences": [owner],
        },
        "spec": {"spec": {"devices": {"requests": [request]}}},
    }
    path = f"/apis/resource.k8s.io/v1/namespaces/{metadata['namespace']}/resourceclaimtemplates"
    try:
        await api.create(path, document)
    except ApiError as error:
        if error.status != 409:  # it is there already
            raise
