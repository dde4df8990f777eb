"""Base class of the engines built on SGLang, the simulated one included: shared defaults and failures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from wideloop.manifests.deployment import DeploymentSpec, WorkerSpec
from wideloop.manifests.diagnosis import Diagnosis
from wideloop.manifests.engines import (
    sglang_checks,
    sglang_defaults,
    sglang_failures,
    sglang_flags,
    sglang_metrics,
    sglang_option_checks,
)
from wideloop.manifests.engines.base import Component, Engine, KernelState
from wideloop.manifests.engines.sglang_memory.model import SglangMemory
from wideloop.manifests.engines.sglang_recorder import sglang_recorder
from wideloop.manifests.engines.sglang_versions import DEFAULT_VERSION
from wideloop.manifests.findings import Finding
from wideloop.manifests.hardware import GpuSpec
from wideloop.manifests.kernels import worker_kernel
from wideloop.manifests.model import ModelSpec


class SglangFamily(Engine):
    """Base of the engines whose workers are SGLang's or behave like SGLang's."""

    version_module = "sglang"
    max_prefill_tokens = sglang_defaults.MAX_PREFILL_TOKENS
    memory_model = SglangMemory()
    metrics = sglang_metrics.SERIES
    balancedness_series = sglang_metrics.BALANCEDNESS
    page_tokens = sglang_defaults.PAGE_TOKENS
    recorder = sglang_recorder()

    def resolve(self, spec: DeploymentSpec) -> DeploymentSpec:
        def resolved(worker: WorkerSpec) -> WorkerSpec:
            if worker.knobs.deepep_mode == "off":
                worker = worker.changed(knobs=worker.knobs.changed(deepep_mode=None))
            return worker.changed(knobs=sglang_defaults.resolve(spec.hardware.gpu, worker))

        return spec.changed(workers=tuple(map(resolved, spec.workers)))

    def option_findings(self, field: str, options: Sequence[str], spec: DeploymentSpec) -> list[Finding]:
        return sglang_option_checks.option_findings(field, options, spec, dynamo=self.runtime == "dynamo")

    def validate(self, spec: DeploymentSpec) -> list[Finding]:
        judge = sglang_option_checks.unused_option_findings
        if not self.simulated:
            judge = partial(sglang_option_checks.worker_option_findings, dynamo=self.runtime == "dynamo")
        return [*super().validate(spec), *judge(spec)]

    def load_findings(self, spec: DeploymentSpec, in_flight: int) -> list[Finding]:
        return sglang_checks.dispatch_findings(spec, in_flight)

    def dispatch_tokens(self, worker: WorkerSpec) -> int:
        return sglang_flags.dispatch_tokens(worker.knobs)

    def kernel_state(self, model: ModelSpec, gpu: GpuSpec, worker: WorkerSpec, version: str) -> KernelState:
        return worker_kernel(model, gpu, worker, version or DEFAULT_VERSION).state

    def capture_sizes(self, max_bs: int) -> tuple[int, ...]:
        return sglang_defaults.capture_list(max_bs)

    def captures_decode(self, worker: WorkerSpec) -> bool:
        return sglang_flags.captures_decode(worker)

    def captures_prefill(self, worker: WorkerSpec) -> bool:
        """True unless DeepEP runs in normal mode, which switches all graphs off."""
        return worker.knobs.deepep_mode != "normal"

    def diagnose(self, component: Component, log: Sequence[str], exit_code: int | None) -> Diagnosis:
        return sglang_failures.diagnose(component, log, exit_code)
