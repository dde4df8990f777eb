"""Rebalances in a worker's log, in the lines that SGLang prints."""

import pytest
from wideloop.manifests.engines.sglang_metrics import BALANCEDNESS
from wideloop.results.engine_metrics import balancedness
from wideloop.results.experts import rebalances

# SGLang 0.5.17's lines on two H200s, shortened.
LOG = """\
[2026-11-21 20:11:02 TP0] [EPLBManager] system started, will rebalance per 100 iterations.
[2026-11-21 20:11:09 TP0] [Expert Balancedness] forward_pass_id=1 current_pass_balancedness=0.790 last_10_average_balancedness=0.790 gpu_physical_count_sum=384
[2026-11-21 20:11:09 TP0] [Expert Balancedness] forward_pass_id=2 current_pass_balancedness=0.810 last_10_average_balancedness=0.800 gpu_physical_count_sum=384
[2026-11-21 20:11:10 TP0] [EPLBManager] rebalance start
[2026-11-21 20:11:10 TP0] [EPLBManager] rebalance end time=0.112s
[2026-11-21 20:11:11 TP0] [Expert Balancedness] forward_pass_id=101 current_pass_balancedness=0.930 last_10_average_balancedness=0.930 gpu_physical_count_sum=384
[2026-11-21 20:11:12 TP0] [EPLBManager] rebalance start
[2026-11-21 20:11:12 TP0] [EPLBManager] rebalance end time=0.066s
[2026-11-21 20:11:13 TP0] [Expert Balancedness] forward_pass_id=201 current_pass_balancedness=0.970 last_10_average_balancedness=0.970 gpu_physical_count_sum=384
"""  # noqa: E501


def test_events_and_their_cost_are_read():
    found = rebalances.read(LOG.splitlines())
    assert found.seconds == (0.112, 0.066)
    assert found.stopped_s == pytest.approx(0.178)
    assert (found.before, found.after) == (0.8, 0.97)


def test_layers_moved_in_chunks_have_no_time_and_some_are_skipped():
    lines = [
        "[EPLBManager] rebalance start",
        "[EPLBManager] rebalance end",
        "[EPLBManager] Skipped ep rebalancing: current GPU utilization 0.97 > minimum rebalance threshold 0.95",
    ]
    found = rebalances.read(lines)
    assert (found.seconds, found.skipped, found.stopped_s) == ((None,), 1, 0)
    assert (found.before, found.after) == (None, None)


# As SGLang 0.5.21 declares the series and prometheus_client's collector of several processes writes it.
PAGE = """\
# HELP sglang:eplb_balancedness Balancedness of MoE in expert parallelism.
# TYPE sglang:eplb_balancedness summary
sglang:eplb_balancedness_count{engine_type="unified",forward_mode="extend",model_name="moe8",moe_ep_rank="0",pp_rank="0",tp_rank="0"} 2.0
sglang:eplb_balancedness_sum{engine_type="unified",forward_mode="extend",model_name="moe8",moe_ep_rank="0",pp_rank="0",tp_rank="0"} 1.6
sglang:eplb_balancedness_count{engine_type="unified",forward_mode="decode",model_name="moe8",moe_ep_rank="0",pp_rank="0",tp_rank="0"} 3.0
sglang:eplb_balancedness_sum{engine_type="unified",forward_mode="decode",model_name="moe8",moe_ep_rank="0",pp_rank="0",tp_rank="0"} 2.8499999999999996
sglang:eplb_balancedness_count{engine_type="unified",forward_mode="idle",model_name="moe8",moe_ep_rank="0",pp_rank="0",tp_rank="0"} 0.0
sglang:eplb_balancedness_sum{engine_type="unified",forward_mode="idle",model_name="moe8",moe_ep_rank="0",pp_rank="0",tp_rank="0"} 0.0
"""  # noqa: E501


def test_balancedness_over_all_passes_is_read_from_the_metrics_page():
    by_mode = balancedness(PAGE, BALANCEDNESS)
    assert rebalances.read([], by_mode).by_mode == {"decode": 0.95, "extend": 0.8}
    assert balancedness("<html>not found</html>", BALANCEDNESS) == {}
    assert balancedness(PAGE, "engine:eplb_balancedness") == {}


def test_a_log_without_rebalances_has_none():
    assert rebalances.read(["loading weights"]) == rebalances.Rebalances()
