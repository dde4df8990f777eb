"""Names of SGLang's metrics, as 0.5.17 to 0.5.23 have them. It calls GiB GB."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from wideloop.manifests.engines.metrics import MetricName, Series

SERIES: Mapping[MetricName, Series] = MappingProxyType(
    {
        "weights_gib": Series("sglang:weight_memory_usage_gb"),
        "kv_gib": Series("sglang:kv_cache_memory_usage_gb"),
        "graphs_gib": Series("sglang:graph_memory_usage_gb"),
        "free_at_start_gib": Series("sglang:startup_available_gpu_memory_gb"),
        "kv_tokens": Series("sglang:max_total_num_tokens"),
        "capture_s": Series("sglang:startup_cuda_graph_time_seconds"),
        "eager_decode_passes": Series("sglang:cuda_graph_passes_total", {"mode": "decode_none"}),
        "graph_decode_passes": Series("sglang:cuda_graph_passes_total", {"mode": "decode_cuda_graph"}),
        "retracted": Series("sglang:num_retracted_requests_total"),
    }
)
#: 0.5.18 and later report it with ``--expert-balancedness-report-mode both``.
BALANCEDNESS = "sglang:eplb_balancedness"
