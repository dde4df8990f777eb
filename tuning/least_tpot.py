"""The time per output token that no engine on a deployment's GPUs goes below."""

from __future__ import annotations

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.tuning.memory import GIB, worker_memory
from wideloop.tuning.space import decoder

#: Output tokens of one pass, at most: speculative decoding accepts some of its drafts.
_TOKENS_PER_PASS = 4
#: Share of the weights that every pass reads; of the embedding it reads some rows only.
_READ = 0.5


def least_tpot_ms(spec: DeploymentSpec) -> float:
    """Milliseconds in which a GPU that decodes can read its weights, without those of routed experts, once per pass.

    A lower bound, and far below what is measured: a stream that is faster was not passed on as it came.
    """
    memory = worker_memory(spec, decoder(spec))
    seconds = _READ * memory.attention_gib * GIB / (spec.hardware.gpu.bandwidth_gb_s * 1e9)
    return 1e3 * seconds / _TOKENS_PER_PASS
