"""The performance model against what SGLang did on two H200s (bf16, EP 2), and its own sanity."""

import numpy as np
import pytest
from wideloop.manifests import profiles
from wideloop.manifests.deployment import Knobs, WorkerSpec
from wideloop.manifests.engines import get_engine
from wideloop.tuning.performance import CONSTANTS, WorkerModel
from wideloop.tuning.placement import place, trivial
from wideloop.tuning.popularity import popularity

from tests.unit.tuning.test_memory import EP2, MOE8, Q24

H200 = profiles.hardware("h200-8")

SGLANG = get_engine("sglang")


def timing(model, placement, max_bs=256, role="aggregated", **knobs):
    redundant = placement.slots - model.num_experts
    worker = WorkerSpec(
        role=role, layout=EP2, knobs=Knobs(redundant_experts=redundant, cuda_graph_max_bs=max_bs, **knobs)
    )
    return WorkerModel(model, H200, worker, popularity(model), placement, engine=SGLANG)


def plain(model):
    return trivial(model.num_moe_layers, model.num_experts, 0, 2)


def placed(model, redundant=0):
    return place(popularity(model), 2, redundant)


@pytest.mark.parametrize(
    ("model", "batch", "context", "measured_ms"),
    [(Q24, 1, 256, 2.59), (Q24, 32, 256, 5.67), (Q24, 256, 256, 8.8), (MOE8, 32, 256, 4.52), (MOE8, 256, 256, 7.81)],
)
def test_decode_steps_are_near_the_measured(model, batch, context, measured_ms):
    assert float(timing(model, plain(model)).decode_ms(batch, context)) == pytest.approx(measured_ms, rel=0.3)


def test_an_eager_step_costs_what_was_measured():
    """Graphs up to 64, batch 256: 51 ms per token on 24 layers. 8 layers of batch 384 took 21 to 31 ms."""
    assert float(timing(Q24, plain(Q24), max_bs=64).decode_ms(256, 256)) == pytest.approx(51.1, rel=0.12)
    assert 21 < float(timing(MOE8, plain(MOE8), max_bs=256).decode_ms(384, 2112)) < 31


def test_an_eager_step_takes_the_host_besides_the_gpu_and_an_eager_chunk_the_longer_of_both():
    host = 8 * CONSTANTS.eager_layer_ms
    eager, graph = timing(MOE8, plain(MOE8), max_bs=256), timing(MOE8, plain(MOE8), max_bs=264)
    captured = float(graph.decode_ms(264, 1000)) - 8 * CONSTANTS.graph_layer_ms
    assert float(eager.decode_ms(264, 1000)) == pytest.approx(captured + host)
    worker = WorkerSpec(role="aggregated", layout=EP2, knobs=Knobs(cuda_graph_max_bs=8))
    chunks = [
        WorkerModel(
            MOE8, H200, worker, popularity(MOE8), plain(MOE8), engine=get_engine("sglang"), prefill_graphs=graphs
        )
        for graphs in (True, False)
    ]
    with_graphs, without = (float(c.prefill_ms(16384)) for c in chunks)
    assert without == pytest.approx(with_graphs - 8 * CONSTANTS.graph_layer_ms)
    assert float(chunks[1].prefill_ms(64)) == pytest.approx(host)


@pytest.mark.parametrize(
    ("placement", "measured"), [(plain(MOE8), 164_000), (placed(MOE8), 175_700), (placed(MOE8, 8), 175_700)]
)
def test_prefill_rate_is_near_the_measured(placement, measured):
    rate = 16384 / float(timing(MOE8, placement).prefill_ms(16384)) * 1000
    assert rate == pytest.approx(measured, rel=0.15)


def test_a_balanced_placement_speeds_prefill_up_but_replicas_slow_decode_down():
    def both(placement):
        model = timing(MOE8, placement)
        return float(model.prefill_ms(16384)), float(model.decode_ms(32, 256))

    trivial_ms, balanced, redundant = both(plain(MOE8)), both(placed(MOE8)), both(placed(MOE8, 32))
    assert balanced[0] < trivial_ms[0]
    assert redundant[1] > balanced[1]


def test_times_grow_with_work():
    model = timing(Q24, plain(Q24))
    assert (np.diff(model.prefill_ms(np.array([64.0, 512, 4096, 16384]))) > 0).all()
    assert (np.diff(model.decode_ms(np.array([1.0, 8, 32, 256, 300]), 1024)) > 0).all()
    assert (np.diff(model.decode_ms(64, np.array([128.0, 1024, 8192]))) > 0).all()


def test_a_batch_is_padded_to_the_next_captured_size():
    model = timing(Q24, plain(Q24))
    sixteen, seventeen, twenty_four = (float(model.decode_ms(b, 1)) for b in (16, 17, 24))
    assert sixteen < seventeen <= twenty_four


def test_deepep_normal_switches_graphs_off():
    chunk = 512
    with_graphs = timing(Q24, plain(Q24)).prefill_ms(chunk)
    eager = timing(Q24, plain(Q24), deepep_mode="normal").prefill_ms(chunk)
    assert float(eager) == pytest.approx(24 * CONSTANTS.eager_layer_ms)
    assert with_graphs < eager
