"""Findings about what SGLang's expert-distribution recorder cannot do, before anything is launched.

Sources: ``srt/eplb/expert_distribution.py`` and ``eplb_manager.py`` of 0.5.17 to 0.5.23. In SGLang all
of these fail, or record wrong counts, only after the model was loaded.
"""

from __future__ import annotations

from collections.abc import Iterator

from wideloop.manifests.deployment import DeploymentSpec, WorkerSpec
from wideloop.manifests.findings import Finding

#: Width of the per-token recorder's table: the experts per token of DeepSeek-V3.
PER_TOKEN_TOP_K = 8


def recorder_findings(spec: DeploymentSpec) -> list[Finding]:
    """Errors about the recording that ``spec`` requests, and about online rebalancing, which also records.

    Pipeline parallelism, whose stages are not gathered into one dump, is not checked: workers here do not use it.
    """
    if spec.record_experts is not None and spec.recorded_passes == 0:
        return [_finding("recorded_passes", 0, "a recorder that keeps no pass records nothing", "1000, or -1 for all")]
    return [finding for worker in spec.workers for finding in _worker(spec, worker)]


def _worker(spec: DeploymentSpec, worker: WorkerSpec) -> Iterator[Finding]:
    knobs, role = worker.knobs, worker.role
    mode = spec.record_experts
    if knobs.eplb == "online":
        if mode is not None:
            yield from _rebalanced(spec, worker)
        mode = mode or "stat"
    if mode is None:
        return
    if mode == "per_token":
        if spec.model.top_k != PER_TOKEN_TOP_K:
            rule = f"its table has room for {PER_TOKEN_TOP_K} experts per token, the model chooses {spec.model.top_k}"
            yield _finding("recorder", mode, rule, "'per_pass' or 'stat'")
        if knobs.two_batch_overlap:
            rule = "the per_token recorder does not support two-batch overlap"
            yield _finding(f"{role}.two_batch_overlap", True, rule, "two_batch_overlap off, or recorder 'stat'")
    elif knobs.deepep_mode == "auto":
        rule = "the recorder does not know which of DeepEP's two modes a pass will use (NotImplementedError)"
        works = "'normal' for prefill, 'low_latency' for decode"
        yield _finding(f"{role}.deepep_mode", knobs.deepep_mode, rule, works)
    if mode == "stat_approx" and knobs.deepep_mode not in ("normal", "auto"):
        rule = "stat_approx reads the counts of DeepEP's normal dispatch, which this worker does not use"
        yield _finding("recorder", mode, rule, f"'stat', or deepep_mode 'normal' for {role}")


def _rebalanced(spec: DeploymentSpec, worker: WorkerSpec) -> Iterator[Finding]:
    passes, interval = spec.recorded_passes, worker.knobs.eplb_rebalance_iterations
    rule = "each rebalance resets the recorder, so a recording would hold only the passes since the last one"
    yield _finding(f"{worker.role}.eplb", worker.knobs.eplb, rule, "'off' or 'static' while recording")
    if not 0 <= passes <= interval:
        rule = f"rebalancing every {interval} passes asserts that the recorder keeps no more than those"
        yield _finding("recorded_passes", passes, rule, f"at most {interval}")


def _finding(field: str, value: object, rule: str, works: str) -> Finding:
    return Finding(field=field, value=value, rule=rule, suggestion=f"Use {works}")
