"""The hardware a deployment runs on, and the worker layout that suits it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from wideloop.manifests.frozen import Frozen

Role = Literal["prefill", "decode", "aggregated"]
Vendor = Literal["nvidia", "amd"]
Arch = Literal["amd64", "arm64"]
#: Kubernetes resource names of the vendors' device plugins.
RESOURCES: dict[Vendor, str] = {"nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu"}


class GpuSpec(Frozen):
    """One GPU, by its data sheet (dense rates, no sparsity).

    ``memory_gib`` is the total that the driver reports, ``usable_gib`` the rest after a CUDA context is
    created (SGLang's base for ``mem_fraction_static``). ``device_name`` is the name that CUDA reports, with
    ``_`` for spaces: kernel configurations are filed under it. ``vendor`` decides which engines run on it, ``resource``
    is the name under which Kubernetes' device plugin counts it; left out, it is the vendor's usual one. ``arch`` is the
    architecture of the host's CPU, as Kubernetes and images name it.
    """

    name: str
    memory_gib: float = Field(gt=0)
    usable_gib: float = Field(gt=0)
    bandwidth_gb_s: float = Field(gt=0, description="HBM bandwidth, 1e9 bytes/s")
    bf16_tflops: float = Field(gt=0)
    fp8_tflops: float = Field(gt=0)
    peer_gb_s: float = Field(gt=0, description="GPU to GPU inside the node, one direction, 1e9 bytes/s")
    device_name: str = ""
    vendor: Vendor = "nvidia"
    resource: str = RESOURCES["nvidia"]
    arch: Arch = "amd64"
    source: str

    @model_validator(mode="before")
    @classmethod
    def _usual_resource(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("vendor") in RESOURCES and "resource" not in values:
            return {**values, "resource": RESOURCES[values["vendor"]]}
        return values

    @model_serializer(mode="wrap")
    def _unusual_only(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the usual values: specs from before these fields existed keep their fingerprints."""
        fields: dict[str, Any] = handler(self)
        for name in ("vendor", "resource", "arch"):
            if fields.get(name) == type(self).model_fields[name].default:
                del fields[name]
        return fields


class WorkerLayout(Frozen):
    """Shape of one worker: how many nodes and GPUs, and how they are divided."""

    nodes: int = Field(gt=0)
    gpus_per_node: int = Field(gt=0)
    tp: int = Field(gt=0, description="tensor-parallel size: all GPUs of the worker")
    dp: int = Field(1, gt=0, description="attention data-parallel size inside the TP group")
    ep: int = Field(gt=0, description="expert-parallel size")

    @property
    def gpus(self) -> int:
        return self.nodes * self.gpus_per_node


class HardwareProfile(Frozen):
    """A named set of GPUs and the layout of workers recommended for it."""

    name: str
    title: str
    gpu: GpuSpec
    nodes: int = Field(gt=0)
    gpus_per_node: int = Field(gt=0)
    fabric: str = Field(description="between nodes: InfiniBand, RoCE, NVLink, none")
    fabric_gb_s: float = Field(ge=0, description="between nodes, per GPU, one direction, 1e9 bytes/s")
    rdma_resource: str | None = Field(None, description="Kubernetes resource name of the RDMA device")
    replicas: dict[Role, int] = Field({}, description="workers of each role; one where a role is not named")
    provider: str | None = Field(None, description="overlay of manifests/kubernetes/providers, or its path")
    workers: dict[Role, WorkerLayout]
    notes: str = ""

    @model_serializer(mode="wrap")
    def _without_usual(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the field that profiles did not have before, where it says nothing, for their fingerprints."""
        fields: dict[str, Any] = handler(self)
        if not self.replicas:
            del fields["replicas"]
        return fields

    @property
    def gpus(self) -> int:
        return self.nodes * self.gpus_per_node
