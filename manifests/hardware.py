"""The hardware a deployment runs on, and the worker layout that suits it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Role = Literal["prefill", "decode", "aggregated"]


class GpuSpec(BaseModel):
    """One GPU, by its data sheet (dense rates, no sparsity).

    ``memory_gib`` is what the driver reports as total, ``usable_gib`` what is left once a CUDA
    context stands (SGLang's base for ``mem_fraction_static``). ``device_name`` is the name that CUDA reports, with
    ``_`` for spaces: kernel configurations are filed under it.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    memory_gib: float = Field(gt=0)
    usable_gib: float = Field(gt=0)
    bandwidth_gb_s: float = Field(gt=0, description="HBM bandwidth, 1e9 bytes/s")
    bf16_tflops: float = Field(gt=0)
    fp8_tflops: float = Field(gt=0)
    peer_gb_s: float = Field(gt=0, description="GPU to GPU inside the node, one direction, 1e9 bytes/s")
    device_name: str = ""
    source: str


class WorkerLayout(BaseModel):
    """Shape of one worker: how many nodes and GPUs, and how they are divided."""

    model_config = ConfigDict(frozen=True)

    nodes: int = Field(gt=0)
    gpus_per_node: int = Field(gt=0)
    tp: int = Field(gt=0, description="tensor-parallel size: all GPUs of the worker")
    dp: int = Field(1, gt=0, description="attention data-parallel size inside the TP group")
    ep: int = Field(gt=0, description="expert-parallel size")

    @property
    def gpus(self) -> int:
        return self.nodes * self.gpus_per_node


class HardwareProfile(BaseModel):
    """A named set of GPUs and the layout of workers recommended for it."""

    model_config = ConfigDict(frozen=True)

    name: str
    title: str
    gpu: GpuSpec
    nodes: int = Field(gt=0)
    gpus_per_node: int = Field(gt=0)
    fabric: str = Field(description="between nodes: InfiniBand, RoCE, NVLink, none")
    fabric_gb_s: float = Field(ge=0, description="between nodes, per GPU, one direction, 1e9 bytes/s")
    rdma_resource: str | None = Field(None, description="Kubernetes resource name of the RDMA device")
    provider: str | None = Field(None, description="provider overlay: coreweave, gke, gke-a4, dgx-cloud-gb200")
    workers: dict[Role, WorkerLayout]
    notes: str = ""

    @property
    def gpus(self) -> int:
        return self.nodes * self.gpus_per_node
