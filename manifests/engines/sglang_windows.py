"""Models whose layers with a sliding or chunked window get a KV cache pool of their own in SGLang.

Read in 0.5.17 to 0.5.23 (``configs/model_config.py``, ``is_hybrid_swa_model``; ``disaggregation/*/conn.py``). The
windowed layers of all other models cache every token.
"""

from __future__ import annotations

from collections.abc import Iterator

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.findings import Finding
from wideloop.manifests.memory import attention_tp
from wideloop.manifests.model import ModelSpec

_ARCHITECTURES = frozenset(
    {
        "DeepseekV4ForCausalLM", "Gemma4ForCausalLM", "Gemma4ForConditionalGeneration", "GptOssForCausalLM",
        "GraniteMoeSWAForCausalLM", "GraniteSWAForCausalLM", "InklingForConditionalGeneration", "LagunaForCausalLM",
        "Llama4ForConditionalGeneration", "MellumForCausalLM", "MiMoV2FlashForCausalLM", "MiMoV2ForCausalLM",
        "Step3p5ForCausalLM", "Step3p7ForConditionalGeneration",
    }
)  # fmt: skip


def has_window_pool(model: ModelSpec) -> bool:
    """Whether SGLang keeps the windowed layers of ``model`` in a pool of their own."""
    return bool(model.window_kv_bytes_per_token) and model.architecture in _ARCHITECTURES


def transfer_findings(spec: DeploymentSpec) -> Iterator[Finding]:
    """The windowed pool cannot be sent between different numbers of attention ranks: every request fails.

    "PD Disaggregation does NOT support PD different TP sizes for non-MLA SWA hybrid models yet", with NIXL and Mooncake
    (llm-d issues 2433 and 2442).
    """
    ranks = {worker.role: attention_tp(worker) for worker in spec.workers}
    if not {"prefill", "decode"} <= ranks.keys() or ranks["prefill"] == ranks["decode"]:
        return
    if not has_window_pool(spec.model) or spec.model.latent_dim:
        return
    rule = (
        f"prefill splits attention over {ranks['prefill']} GPUs and decode over {ranks['decode']}: SGLang cannot send "
        f"the cache of layers with a window, as {spec.model.name} has them, between these: every request would fail"
    )
    yield Finding(
        field="decode.dp",
        value=spec.worker("decode").layout.dp,
        rule=rule,
        suggestion="Use a hardware profile with the same TP / DP in both roles, such as h200-32, or an aggregated one",
    )
