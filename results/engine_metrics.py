"""What is read from an engine's metrics page: memory, start-up, steps without a CUDA graph, balancedness.

The engine says which series each figure is (``Engine.metrics``); a page without that series leaves the field None.
Memory is in GiB per GPU, time in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict
from wideloop.manifests.engines.metrics import MetricName, Series
from wideloop.manifests.telemetry.sampler import page_samples


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


def read_metrics(page: str, series: Mapping[MetricName, Series]) -> EngineMetrics:
    """The figures of a page in Prometheus' text format; ``series``: the engine's names of them."""
    values: dict[str, float] = {}
    for name, labels, value in page_samples(page):
        for field, wanted in series.items():
            if name == wanted.name and wanted.labels.items() <= labels.items():
                values[field] = max(value, values.get(field, value))
    return EngineMetrics(**values)


def balancedness(page: str, series: str) -> dict[str, float]:
    """Mean over all passes since the start by forward mode (``extend``, ``decode``), as the engine counts it.

    Empty where the server does not report it.

    Args:
        series: the engine's name of a Prometheus summary with the label ``forward_mode``.
    """
    sums: dict[str, float] = {}
    passes: dict[str, float] = {}
    for name, labels, value in page_samples(page):
        into = {f"{series}_sum": sums, f"{series}_count": passes}.get(name)
        if into is not None and (mode := labels.get("forward_mode")):
            into[mode] = into.get(mode, 0.0) + value
    return {mode: round(sums[mode] / n, 4) for mode, n in sorted(passes.items()) if n > 0 and mode in sums}
