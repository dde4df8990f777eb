"""Findings about deployments that repeat an error of published Wide-EP recipes.

The recipes are NVIDIA's labs on expert parallelism and Dynamo's guide for DeepSeek-R1 on H100.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from wideloop.manifests.deployment import DeploymentSpec, WorkerSpec
from wideloop.manifests.findings import Finding
from wideloop.manifests.hardware import GpuSpec

_GPUS_IN_NAME = re.compile(r"(?<![a-z0-9])(\d+)-?gpus?(?![a-z0-9])")
#: Largest worker of the recipes that do not fit: number of GPUs, GiB of each.
_LARGEST, _GPU_GIB = 8, 80
#: Upper bound for the bytes of a "500 GB" claim, in GB or GiB.
_LAB_CLAIM = range(490 * 10**9, 500 * 1024**3 + 1)


def published_error_findings(spec: DeploymentSpec) -> list[Finding]:
    """Errors of recipes that no other check reports."""
    return [*_nothing_left(spec), *_other_total(spec)]


def redundancy(redundant: int, ep: int) -> str:
    """Addition to the rule that ``redundant`` experts break with EP ``ep``: 272 experts do not divide by 72."""
    if not redundant:
        return ""
    return f"; published rules of thumb (16, 32, 64; half the GPUs to all of them) do not look at EP {ep}"


def too_small(worker: WorkerSpec, gpu: GpuSpec) -> str:
    """Addition to the rule that a model's weights break on ``worker``: 671 GB on 4 or 8 GPUs of 80 GB."""
    if worker.layout.gpus > _LARGEST or gpu.memory_gib > _GPU_GIB:
        return ""
    return "; published manifests of DeepSeek-R1 for 8 and 16 GPUs of 80 GB overlook it"


def small_claim(claim_bytes: int) -> str:
    """Addition to the rule that a model breaks on a claim of ``claim_bytes``: 690 GB on "500 GB"."""
    if claim_bytes not in _LAB_CLAIM:
        return ""
    return "; published storage requirements of DeepSeek-R1 (500 GB) overlook it"


def _nothing_left(spec: DeploymentSpec) -> Iterator[Finding]:
    """A lab's "32 GPUs" manifest: 4 nodes of 8 for prefill, TP 16, and nothing for decode."""
    for worker in spec.workers:
        if worker.role != "aggregated" and worker.layout.gpus >= spec.hardware.gpus:
            yield Finding(
                field=f"{worker.role}.nodes",
                value=worker.layout.nodes,
                rule=(
                    f"its {worker.layout.gpus} GPUs are all that {spec.hardware.name} has, and the other role needs "
                    "some too; a published manifest for 32 GPUs has this error"
                ),
                suggestion=f"Use {max(worker.layout.nodes // 2, 1)} nodes with TP = EP = the GPUs of those nodes",
            )


def _other_total(spec: DeploymentSpec) -> Iterator[Finding]:
    """A lab's "8gpu-singlenode" takes 16 GPUs on two nodes."""
    named = _GPUS_IN_NAME.search(spec.name)
    if named and int(named[1]) != spec.gpus:
        yield Finding(
            field="name",
            value=spec.name,
            rule=f"says {named[1]} GPUs, and all roles together take {spec.gpus}; a published manifest misleads so",
            suggestion=f"Call it by what it takes: {spec.gpus}gpu",
            severity="warning",
            id="gpus-in-name",
        )
