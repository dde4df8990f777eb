"""An SGLang server's metrics page: memory, start-up, steps without a CUDA graph, balancedness.

Names are those of SGLang 0.5.17 to 0.5.23; a page of another engine, or a version without a series, leaves a field
None. Memory is in GiB per GPU (SGLang calls it GB), time in seconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict

_SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})?\s+(?P<value>\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class EngineMetrics(BaseModel):
    """One server; of every figure the highest of its ranks.

    Attributes:
        kv_tokens: tokens of KV cache.
        eager_decode_passes: decode steps for which every captured graph was too small; each costs the host some 2 ms
            per layer, so a few hundred of them make a server slow.
        graph_decode_passes: decode steps that replayed a graph.
        retracted: requests that were evicted from a full KV cache and computed again.
    """

    model_config = ConfigDict(frozen=True)

    weights_gib: float | None = None
    kv_gib: float | None = None
    graphs_gib: float | None = None
    free_at_start_gib: float | None = None
    kv_tokens: float | None = None
    capture_s: float | None = None
    eager_decode_passes: float | None = None
    graph_decode_passes: float | None = None
    retracted: float | None = None

    @property
    def without_graphs(self) -> bool:
        """Whether decode steps ran without a CUDA graph."""
        return bool(self.eager_decode_passes)


#: Field: name of the series, labels it must have.
_SERIES: dict[str, tuple[str, dict[str, str]]] = {
    "weights_gib": ("sglang:weight_memory_usage_gb", {}),
    "kv_gib": ("sglang:kv_cache_memory_usage_gb", {}),
    "graphs_gib": ("sglang:graph_memory_usage_gb", {}),
    "free_at_start_gib": ("sglang:startup_available_gpu_memory_gb", {}),
    "kv_tokens": ("sglang:max_total_num_tokens", {}),
    "capture_s": ("sglang:startup_cuda_graph_time_seconds", {}),
    "eager_decode_passes": ("sglang:cuda_graph_passes_total", {"mode": "decode_none"}),
    "graph_decode_passes": ("sglang:cuda_graph_passes_total", {"mode": "decode_cuda_graph"}),
    "retracted": ("sglang:num_retracted_requests_total", {}),
}


def read_metrics(page: str) -> EngineMetrics:
    """The metrics of a page in Prometheus' text format."""
    values: dict[str, float] = {}
    for name, labels, value in _samples(page):
        for field, (series, wanted) in _SERIES.items():
            if name == series and wanted.items() <= labels.items():
                values[field] = max(value, values.get(field, value))
    return EngineMetrics(**values)


#: A Prometheus summary that 0.5.18 and later report with ``--expert-balancedness-report-mode both``.
_BALANCEDNESS = "sglang:eplb_balancedness"


def balancedness(page: str) -> dict[str, float]:
    """Mean over all passes since the start by forward mode (``extend``, ``decode``), as SGLang counts it.

    Empty where the server does not report it.
    """
    sums: dict[str, float] = {}
    passes: dict[str, float] = {}
    for name, labels, value in _samples(page):
        into = {f"{_BALANCEDNESS}_sum": sums, f"{_BALANCEDNESS}_count": passes}.get(name)
        if into is not None and (mode := labels.get("forward_mode")):
            into[mode] = into.get(mode, 0.0) + value
    return {mode: round(sums[mode] / n, 4) for mode, n in sorted(passes.items()) if n > 0 and mode in sums}


def _samples(page: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for line in page.splitlines():
        match = None if line.startswith("#") else _SAMPLE.match(line)
        if match is None:
            continue
        try:
            value = float(match["value"])
        except ValueError:
            continue
        yield match["name"], dict(_LABEL.findall(match["labels"] or "")), value
