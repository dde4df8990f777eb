"""DeepEP's buffers and DeepSeek-R1's weights by expert-parallel size."""

import pytest
from wideloop.manifests import profiles
from wideloop.manifests.engines.sglang_flags import dispatch_tokens
from wideloop.manifests.memory import deepep, mtp_gib, weights
from wideloop.tuning.memory.reference import AICONFIGURATOR, PUBLISHED_GIB, r1_weights, r1_worker

R1 = profiles.model("DeepSeek-R1")


def buffer_gib(worker):
    return deepep.buffer_gib(R1, worker, dispatch_tokens(worker.knobs))


def masked_gib(worker):
    return deepep.masked_gib(R1, worker, dispatch_tokens(worker.knobs))


@pytest.mark.parametrize(
    ("ranks", "nvlink", "rdma"),
    [(8, 335709824, 0), (16, 377673984, 91887744), (32, 377675264, 168023680), (144, 944191744, 779734144)],
)
def test_normal_buffers_are_deepeps_own_hints(ranks, nvlink, rdma):
    """Printed by DeepEP's csrc/legacy/config.hpp itself, for R1's hidden size and its recommended configurations."""
    assert (deepep.nvlink_bytes(7168, ranks), deepep.rdma_bytes(7168, ranks)) == (nvlink, rdma)


@pytest.mark.parametrize(
    ("tokens", "hidden", "experts", "size"),
    [(128, 7168, 256, 1908410496), (128, 7168, 288, 2146961792), (256, 4096, 128, 1090520192)],
)
def test_low_latency_buffers_are_deepeps_own_hints(tokens, hidden, experts, size):
    assert deepep.low_latency_bytes(tokens, hidden, experts) == size


def test_buffers_come_with_the_mode():
    sizes = {mode: buffer_gib(r1_worker(16, mode=mode)) for mode in (None, "normal", "low_latency", "auto")}
    assert sizes[None] == 0
    assert sizes["low_latency"] == pytest.approx(2.0)  # SGLang itself keeps 2 GiB for them
    assert 0 < sizes["normal"] < sizes["low_latency"] < sizes["auto"] < sizes["normal"] + sizes["low_latency"] + 0.01


def test_larger_graphs_need_larger_low_latency_buffers():
    worker = r1_worker(32)
    wide = worker.model_copy(update={"knobs": worker.knobs.model_copy(update={"cuda_graph_max_bs": 256})})
    assert buffer_gib(wide) == pytest.approx(2 * buffer_gib(worker), rel=0.15)
    assert masked_gib(wide) == pytest.approx(2 * masked_gib(worker))


@pytest.mark.parametrize(("ep", "experts"), [(8, 76.14), (16, 38.07), (32, 19.04)])
def test_a_slot_of_r1_costs_what_sglangs_tensors_take(ep, experts):
    assert r1_weights(ep).experts == pytest.approx(experts, abs=0.005)
    assert r1_weights(ep, ep).experts - r1_weights(ep).experts == pytest.approx(2.379, abs=0.0005)


def test_r1_weighs_what_a_user_logged():
    """DP 8, EP 8, DeepEP, the 32 redundant experts of the thread's commands."""
    assert r1_weights(8, 32).total == pytest.approx(PUBLISHED_GIB, abs=0.25)


def test_tensor_parallel_attention_still_copies_its_first_projections():
    layout = r1_worker(8).layout.model_copy(update={"dp": 1})
    divided = weights(R1, r1_worker(8).model_copy(update={"layout": layout}))
    whole = r1_weights(8)
    assert whole.attention / 8 < divided.attention < whole.attention / 4
    assert divided.absorbed == pytest.approx(whole.absorbed / 8)


def test_every_term_of_aiconfigurator_is_one_of_ours():
    assert set(AICONFIGURATOR) == {"experts", "attention", "absorbed", "embeddings", "dense", "shared", "routers"}
    assert sum(theirs for theirs, _ in AICONFIGURATOR.values()) == pytest.approx(26.17, abs=0.02)


def test_speculative_decoding_would_add_a_moe_layer():
    assert mtp_gib(R1, r1_worker(32)) == pytest.approx(0.71, abs=0.02)
    assert mtp_gib(profiles.model("Qwen3-30B-A3B"), r1_worker(32)) == 0
