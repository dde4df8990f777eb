"""Errors about what an engine lacks, whatever the values: GPUs of another vendor, knobs, the recorder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from wideloop.manifests.deployment import DeploymentSpec, Knobs
from wideloop.manifests.findings import Finding

if TYPE_CHECKING:
    from wideloop.manifests.engines.base import Engine

_VENDORS = {"nvidia": "NVIDIA", "amd": "AMD"}


def support_findings(engine: Engine, spec: DeploymentSpec) -> list[Finding]:
    """Errors for what ``spec`` uses and ``engine`` does not have."""
    return [*_gpu(engine, spec), *_knobs(engine, spec), *_recorder(engine, spec)]


def _gpu(engine: Engine, spec: DeploymentSpec) -> Iterator[Finding]:
    gpu = spec.hardware.gpu
    if gpu.vendor not in engine.vendors:
        vendors = " and ".join(_VENDORS[vendor] for vendor in engine.vendors)
        yield Finding(
            field="hardware",
            value=spec.hardware.name,
            rule=f"its GPUs ({gpu.name}) are {_VENDORS[gpu.vendor]}'s, and engine {engine.name} runs on {vendors} only",
            suggestion=f"Use a hardware profile with GPUs of {vendors}, e.g. h200-8, or another engine",
        )


def _knobs(engine: Engine, spec: DeploymentSpec) -> Iterator[Finding]:
    """Errors for missing knobs; a knob at its default counts as unused."""
    for worker in spec.workers:
        for name, field in Knobs.model_fields.items():
            value = getattr(worker.knobs, name)
            if name not in engine.knobs and value != field.default:
                yield Finding(
                    field=f"{worker.role}.{name}",
                    value=value,
                    rule=f"engine {engine.name} does not have this knob",
                    suggestion=f"Leave it at {field.default!r}",
                )


def _recorder(engine: Engine, spec: DeploymentSpec) -> Iterator[Finding]:
    if spec.record_experts is not None and engine.recorder is None:
        yield Finding(
            field="recorder",
            value=spec.record_experts,
            rule=f"engine {engine.name} does not record which experts are used",
            suggestion="Leave record_experts at None",
        )
