"""The 16 recordings of two H200s: read, analysed, placed, and told whether a placement was honoured."""

import gzip
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from wideloop.manifests.deployment import Knobs, WorkerSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.hardware import WorkerLayout
from wideloop.results import recordings
from wideloop.tuning import balance
from wideloop.tuning.effect import effect, ignoring
from wideloop.tuning.placement import optimise, read, trivial
from wideloop.tuning.simulator import torch_file

GPU = Path(__file__).parents[2] / "data" / "gpu"
STORE = Path(__file__).parents[3] / "docs" / "gpu" / "store.tar.xz"
LOADED = Path(__file__).parent / "data"
#: Counts of both ranks of a pass of at most 64 tokens, which is what was decoded at once.
DECODE = 64 * 8 * 2
#: Tokens times experts of a pass that prefills whole chunks.
PREFILL = 5000 * 8


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Every recording as SGLang's recorder dumped it, read as ours is: by name."""
    folder = tmp_path_factory.mktemp("dumped")
    found = {}
    with np.load(GPU / "recordings.npz") as file:
        for name in file.files:
            content = {"rank": 0, "logical_count": file[name].astype(np.int32) * 2}
            torch_file.save(folder / f"{name}.pt", content)
            found[name] = recordings.read_dumps(folder / f"{name}.pt", copies=2, decode_at_most=DECODE)
    return found


def placed(name, experts=128):
    folder = GPU / "placements" if name.startswith("q24") else LOADED
    return read(folder / f"{name}.json", 2, experts) if name else trivial(8, experts, 0, 2)


def test_all_sixteen_are_read(recorded):
    assert len(recorded) == 16
    shapes = {name.split("_")[0]: (r.layers, r.experts, r.dense) for name, r in recorded.items()}
    assert shapes == {"r2": (24, 128, ()), "r3": (8, 128, ()), "r5": (5, 256, (0,))}


@pytest.mark.parametrize(
    ("name", "placement", "whole", "prefill", "decode"),
    [
        ("r3_b_base_M", "", 0.785, None, None),
        ("r3_b_base2_M", "", 0.785, 0.785, 0.785),
        ("r3_b_R0_M", "h200_greedyM_R0", 0.998, 0.998, 0.900),
        ("r3_b_R8_M", "h200_greedyM_R8", 0.999, 0.997, 0.970),
        ("r3_b_R32_M", "h200_greedyM_R32", 0.999, 0.999, 0.980),
        ("r3_b_R8_fromA_M", "h200_greedyA_R8", 0.965, 0.965, 0.956),
        ("r3_b_R8_stockcfg_M", "h200_greedyM_R8", 0.999, None, None),
        ("r3_b_uniform_M", "", 1.0, None, None),
    ],
)
def test_balance_is_what_was_measured_there(recorded, name, placement, whole, prefill, decode):
    recording, where = recorded[name], placed(placement)
    assert balance.balance(recording.total, where) == pytest.approx(whole, abs=0.0006)
    with np.load(GPU / "recordings.npz") as file:
        passes = file[name].astype(float)
    # Balance of single passes, which windows would even out: a small batch is never as even as its sum.
    for expected, some in (
        (prefill, balance.passes(passes, PREFILL)),
        (decode, balance.passes(passes, 1, DECODE / 2 + 1)),
    ):
        if expected is not None:
            assert balance.balance(some, where) == pytest.approx(expected, abs=0.001)


def test_every_recording_can_be_placed_better_than_it_was(recorded):
    for recording in recorded.values():
        load = recording.total.astype(float)
        for redundant in (0, 8):
            plan = optimise(load, 2, redundant)
            own = balance.balance(load, trivial(recording.layers, recording.experts, redundant, 2))
            assert balance.balance(load, plan.placement) >= max(own, 0.999)
            assert plan.gap.max() < 0.002


@pytest.mark.parametrize("redundant", [0, 8])
def test_a_placement_that_the_engine_ignored_is_noticed(recorded, redundant):
    before, after = recorded["r2_base_M"].total, recorded[f"r2_greedy_R{redundant}_M"].total
    found = effect(before, after, placed(f"q24_greedy_R{redundant}"))
    assert found.state == "ignored"
    assert np.median(found.permuted) > 0.999 and np.median(found.correlation) < 0.4
    assert "0.5.23" in found.reason


@pytest.mark.parametrize("name", ["R0_M", "R8_M", "R32_M"])
def test_a_placement_that_was_honoured_is_proven(recorded, name):
    redundant = name.removesuffix("_M")
    # The second server of the same traffic: its first recording holds the warm-up too.
    found = effect(recorded["r3_b_base2_M"].total, recorded[f"r3_b_{name}"].total, placed(f"h200_greedyM_{redundant}"))
    assert found.state == "honoured"
    assert np.median(found.correlation) > 0.999


def test_other_traffic_proves_nothing(recorded):
    found = effect(recorded["r3_b_base_A"].total, recorded["r3_b_base_B"].total, placed("h200_greedyM_R0"))
    assert found.state == "unclear"
    assert "traffic changed" in found.reason


def test_in_order_there_is_nothing_to_tell(recorded):
    base = recorded["r3_b_base_M"].total
    assert effect(base, base, trivial(8, 128, 8, 2)).state == "untold"
    assert np.array_equal(ignoring(base, trivial(8, 128, 8, 2)), base)


def worker(tp, ep, **knobs):
    layout = WorkerLayout(nodes=1, gpus_per_node=tp, tp=tp, dp=1, ep=ep)
    return WorkerSpec(role="aggregated", layout=layout, knobs=Knobs(**knobs))


def test_a_dump_counts_each_token_on_every_tensor_parallel_rank(tmp_path):
    """What the engine's own log says it prefilled and decoded while it recorded."""
    with tarfile.open(STORE) as store:
        for member in store:
            if re.search(r"recordings/baseline-4752f8a144/.*\.pt$", member.name):
                (tmp_path / "dump.pt").write_bytes(store.extractfile(member).read())
            elif member.name.endswith("logs/baseline-4752f8a144-aggregated-0.log.gz"):
                log = gzip.decompress(store.extractfile(member).read()).decode()
    recorded = log.partition("/start_expert_distribution_record")[2].partition("/stop_expert_distribution_record")[0]
    prompts = sum(map(int, re.findall(r"#new-token: (\d+)", recorded)))
    decoded = (1152 + 32) * 127  # the measurement and its warm-up; the first token comes from the prompt
    copies = get_engine("sglang").recorder.copies(worker(2, 2))
    found = recordings.read_dumps(tmp_path / "dump.pt", copies=copies, decode_at_most=DECODE)
    assert found.tokens(top_k=8) == pytest.approx(prompts + decoded, rel=0.01)


@pytest.mark.parametrize("name", ["sglang", "dynamo-sglang", "simulated"])
def test_copies_follow_the_ranks_that_route_a_token_not_the_groups_of_experts(name):
    copies = get_engine(name).recorder.copies
    assert [copies(worker(8, ep)) for ep in (8, 4, 1)] == [8, 8, 8]
    assert copies(worker(8, 8, deepep_mode="normal")) == 1
