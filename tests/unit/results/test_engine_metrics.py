from __future__ import annotations

from pathlib import Path

import pytest
from wideloop.results.engine_metrics import read_metrics

DATA = Path(__file__).parents[2] / "data" / "sglang"


def test_a_page_of_a_server_on_two_h200():
    found = read_metrics((DATA / "metrics.prom").read_text())
    assert found.weights_gib == pytest.approx(27.90, abs=0.01)
    assert found.kv_gib == pytest.approx(13.57, abs=0.01)
    assert found.graphs_gib == pytest.approx(0.586, abs=0.001)
    assert (found.kv_tokens, found.retracted) == (444661, 4)
    assert found.capture_s == pytest.approx(6.26, abs=0.01)
    assert not found.without_graphs and found.graph_decode_passes == 628


def test_steps_without_a_graph_are_seen():
    assert read_metrics((DATA / "metrics_eager.prom").read_text()).without_graphs


@pytest.mark.parametrize(
    "page", ["", "# HELP x y\n", "<html>not found</html>", 'sglang:max_total_num_tokens{a="b"} many']
)
def test_a_page_of_something_else_says_nothing(page: str):
    assert read_metrics(page).model_dump(exclude_none=True) == {}
