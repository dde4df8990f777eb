"""Whether the deployment can work anywhere: what its engine takes, and what each role's GPUs hold."""

from __future__ import annotations

from collections.abc import Iterator

from wideloop.manifests.deployment import DeploymentSpec, WorkerSpec
from wideloop.manifests.engines import get_engine
from wideloop.operators.targets.kubernetes.preflight.check_result import CheckResult
from wideloop.tuning import memory


def check_configuration(spec: DeploymentSpec) -> Iterator[CheckResult]:
    """The engine's own rules, then the memory of each role; ``spec`` must be resolved."""
    named = f"{spec.engine} {spec.engine_version}".strip()
    result = CheckResult("engine", f"{named} takes these settings", tuple(get_engine(spec.engine).validate(spec)))
    yield result
    if result.state == "error":
        # Arithmetic on a layout that is wrong in itself would only confuse.
        yield CheckResult("memory", "not computed for settings that the engine refuses", made=False)
        return
    for worker in spec.workers:
        yield _memory(spec, worker)


def _memory(spec: DeploymentSpec, worker: WorkerSpec) -> CheckResult:
    gpu = spec.hardware.gpu
    takes = memory.worker_memory(spec, worker)
    amounts = (
        f"{takes.weights_gib + takes.reserve_gib:.1f} GiB of {takes.usable_gib:.1f} GiB per {gpu.name} "
        f"({takes.weights_gib:.1f} of them weights), KV cache {takes.kv_gib:.1f} GiB"
    )
    alone = spec.changed(workers=(worker,))
    return CheckResult(f"{worker.role} memory", amounts, tuple(memory.memory_findings(alone)))
