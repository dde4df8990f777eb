from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from wideloop.manifests.engines.metrics import NO_METRICS, MetricName, Series
from wideloop.manifests.engines.sglang_metrics import SERIES
from wideloop.results.engine_metrics import EngineMetrics, read_metrics

DATA = Path(__file__).parents[2] / "data" / "sglang"


def test_a_page_of_a_server_on_two_h200():
    found = read_metrics((DATA / "metrics.prom").read_text(), SERIES)
    assert found.weights_gib == pytest.approx(27.90, abs=0.01)
    assert found.kv_gib == pytest.approx(13.57, abs=0.01)
    assert found.graphs_gib == pytest.approx(0.586, abs=0.001)
    assert (found.kv_tokens, found.retracted) == (444661, 4)
    assert found.capture_s == pytest.approx(6.26, abs=0.01)
    assert not found.without_graphs and found.graph_decode_passes == 628


def test_steps_without_a_graph_are_seen():
    assert read_metrics((DATA / "metrics_eager.prom").read_text(), SERIES).without_graphs


@pytest.mark.parametrize(
    "page", ["", "# HELP x y\n", "<html>not found</html>", 'sglang:max_total_num_tokens{a="b"} many']
)
def test_a_page_of_something_else_says_nothing(page: str):
    assert read_metrics(page, SERIES).model_dump(exclude_none=True) == {}


def test_an_engine_names_its_series_itself():
    page = 'engine:cache_tokens{rank="0"} 100\nengine:cache_tokens{rank="1"} 120\nengine:cache_tokens 900\n'
    series: dict[MetricName, Series] = {"kv_tokens": Series("engine:cache_tokens", {"rank": "1"})}
    assert read_metrics(page, series) == EngineMetrics(kv_tokens=120)
    assert read_metrics(page, NO_METRICS) == EngineMetrics()


def test_every_figure_can_be_named_by_an_engine():
    assert set(get_args(MetricName)) == set(EngineMetrics.model_fields)
