"""Deployments whose documents are kept as golden files: one of each shape that runs under Dynamo.

    python -m tests.unit.manifests.kubernetes.golden_cases      # write the files anew, to be read in a diff

What changes with every field of a specification (the specification itself, its fingerprint) is left out of the files.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import yaml
from wideloop.manifests import profiles
from wideloop.manifests.deployment import DeploymentSpec, Knobs, WorkerSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.hardware import Role, WorkerLayout
from wideloop.manifests.kubernetes.dynamo import render
from wideloop.manifests.kubernetes.options import ApiVersion, ClusterOptions

FOLDER = Path(__file__).parent / "golden"
API_VERSIONS: tuple[ApiVersion, ...] = get_args(ApiVersion)
DIGEST = "sha256:" + "0123456789abcdef" * 4
#: Of one layer only: whether a placement suits the model is not what is looked at here.
PLACEMENT = FOLDER / "placement.json"


@dataclass(frozen=True)
class Case:
    """One deployment. ``layouts`` replaces the hardware profile's own."""

    name: str
    hardware: str
    model: str = "DeepSeek-R1"
    engine: str = "dynamo-sglang"
    knobs: dict[Role, Knobs] = field(default_factory=dict)
    layouts: dict[Role, WorkerLayout] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)

    def spec(self, version: str = "0.5.21") -> DeploymentSpec:
        """The deployment, resolved by its engine, for a version of SGLang."""
        hardware = profiles.hardware(self.hardware)
        spec = DeploymentSpec(
            name=self.name,
            target="dynamo",
            engine=self.engine,
            engine_version=version if self.engine == "dynamo-sglang" else "",
            image=DIGEST,
            model=profiles.model(self.model),
            model_path=f"/model-cache/{self.model}",
            hardware=hardware,
            workers=tuple(
                WorkerSpec(role=role, layout=layout, knobs=self.knobs.get(role, Knobs()))
                for role, layout in (self.layouts or hardware.workers).items()
            ),
        )
        return get_engine(self.engine).resolve(spec.model_copy(update=self.changes))

    def cluster(self, api_version: ApiVersion) -> ClusterOptions:
        return ClusterOptions(api_version=api_version, namespace="wideloop", **self.options)

    def documents(self, api_version: ApiVersion, version: str = "0.5.21") -> list[dict[str, Any]]:
        """The documents as they are applied."""
        return render(self.spec(version), self.cluster(api_version))

    def file(self, api_version: ApiVersion) -> Path:
        return FOLDER / f"{self.name}.{api_version}.yaml"


_DECODE = Knobs(redundant_experts=32, mem_fraction_static=0.835, cuda_graph_max_bs=128)
_PREFILL = Knobs(redundant_experts=32, mem_fraction_static=0.85, chunked_prefill_size=524288)
_PLACED = Knobs(redundant_experts=32, eplb="static", expert_placement=str(PLACEMENT))

CASES = (
    Case("small-8", "h100-8", model="Qwen3-30B-A3B-FP8"),
    Case("r1-16", "h200-16"),
    Case("r1-16-4x4", "h200-16-4x4"),
    Case("r1-32", "h200-32"),
    Case("r1-104", "h100-104", knobs={"prefill": _PREFILL, "decode": _DECODE}),
    Case("r1-gb200", "gb200-nvl72"),
    Case("r1-dgx-gb200", "dgx-cloud-gb200"),
    Case("r1-coreweave", "coreweave-h200-32"),
    Case("r1-gke-h200", "gke-h200-32"),
    Case("r1-gke-b200", "gke-b200-32"),
    Case("r1-one-worker", "h200-8", layouts={"aggregated": WorkerLayout(nodes=1, gpus_per_node=8, tp=8, dp=8, ep=8)}),
    Case("simulated-8", "h100-8", model="Qwen3-235B-A22B-FP8", engine="simulated",
         options={"engine_image": "wideloop-simulated:0.1.0"}),
    Case(
        "every-option", "h200-32",
        knobs={
            "prefill": _PLACED.model_copy(update={
                "deepep_mode": "normal", "two_batch_overlap": True, "chunked_prefill_size": 262144,
                "max_running_requests": 8192, "mem_fraction_static": 0.85,
            }),
            "decode": _PLACED.model_copy(update={
                "deepep_mode": "low_latency", "deepep_dispatch_tokens": 256, "cuda_graph_max_bs": 256,
                "mem_fraction_static": 0.82,
            }),
        },
        options={
            "engine_image": "registry.example:5000/wideloop/dynamo-sglang:main", "engine_runtime_version": "1.6.1",
            "image_pull_secret": "registry", "priority_class": "benchmarks", "service_account": "wideloop-engine",
            "gpu_node_selector": {"nvidia.com/gpu.product": "NVIDIA-H200"}, "cpu_node_selector": {"pool": "cpu"},
            "tolerations": ({"key": "reserved", "operator": "Exists"},),
            "rdma_resource": "rdma/roce", "rdma_per_gpu": 2,
            "pod_annotations": {"example.com/networks": "rdma-0,rdma-1"}, "hf_token_secret": "hf-token-secret",
            "pod_labels": {"team": "serving"}, "kueue_queue": "gpus", "kai_queue": "serving", "host_network": True,
            "worker_env": {"NCCL_NVLS_ENABLE": "0"}, "worker_resources": {"example.com/nic": "8"},
            "worker_volumes": ({"name": "nvme", "mountPath": "/scratch", "hostPath": {"path": "/mnt/nvme"}},),
            "worker_security_context": {"readOnlyRootFilesystem": True},
            "topology_keys": ("topology.kubernetes.io/rack",), "required_node_labels": ("example.com/fabric",),
            "engine_options": ("--disaggregation-ib-device", "mlx5_0,mlx5_1"),
            "worker_cpu": "64", "worker_memory": "1Ti", "shared_memory": "200Gi", "grove": False, "kernel_cache": False,
        },
        changes={"record_experts": "stat", "model_path": "deepseek-ai/DeepSeek-R1"},
    ),
)  # fmt: skip


def shown(documents: list[dict[str, Any]]) -> str:
    """Documents as a golden file has them."""
    documents = deepcopy(documents)
    graph, config, *_ = documents
    _mask(graph)
    config["data"] = dict.fromkeys(config["data"], "(left out)")
    return yaml.dump_all(documents, Dumper=_Compact, sort_keys=False, width=120, default_flow_style=None)


class _Compact(yaml.SafeDumper):
    """Lists and mappings without further ones inside on one line, and equal ones in full."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _mask(node: Any) -> None:
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("wideloop/fingerprint", "wideloop/config-digest"):
                node[key] = "(left out)"
            else:
                _mask(value)
    elif isinstance(node, list):
        for value in node:
            _mask(value)


def main() -> None:
    import wideloop.tuning  # noqa: F401  It adds the simulated engine.

    for case in CASES:
        for api_version in API_VERSIONS:
            case.file(api_version).write_text(shown(case.documents(api_version)))


if __name__ == "__main__":
    main()
