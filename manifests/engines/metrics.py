"""What an engine calls the series of its metrics page, by the figure that is read from each.

The page is in Prometheus' text format; ``wideloop.results.engine_metrics`` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

#: The fields of ``wideloop.results.engine_metrics.EngineMetrics``, which says what each is.
MetricName = Literal[
    "weights_gib",
    "kv_gib",
    "graphs_gib",
    "free_at_start_gib",
    "kv_tokens",
    "capture_s",
    "eager_decode_passes",
    "graph_decode_passes",
    "retracted",
]


class Series(NamedTuple):
    """A series by its name and the labels that a sample of it must have; its unit is the figure's.

    Example:
        >>> Series("engine:steps_total", {"mode": "decode"}).labels["mode"]
        'decode'
    """

    name: str
    labels: Mapping[str, str] = MappingProxyType({})


#: An engine whose metrics are not read.
NO_METRICS: Mapping[MetricName, Series] = MappingProxyType({})
