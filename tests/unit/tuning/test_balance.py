"""Measures on recordings of two H200s: the figures that were found there, and what every measure keeps to."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from wideloop.tuning import balance
from wideloop.tuning.placement import Placement, optimise, place, rank_load, read, trivial

DATA = Path(__file__).parent / "data"
TRIVIAL = trivial(8, 128, 0, 2)
#: Counts of a pass below which it was a decode pass there: 64 tokens, 8 experts each, counted by 2 ranks.
DECODE = 64 * 8 * 2 + 1
counts = arrays.arrays(np.int64, (3, 4, 8), elements=st.integers(0, 1000))


@pytest.fixture(scope="module")
def sums():
    with np.load(DATA / "h200_sums.npz") as file:
        return {name: file[name] for name in file.files}


def steps(name):
    with np.load(DATA / f"h200_moe8_{name}_steps.npz") as file:
        return file["logical_count"]


def loaded(name):
    """A placement that was loaded there."""
    return read(DATA / f"h200_{name}.json", 2, 128)


@pytest.mark.parametrize(
    ("recorded", "placement", "measured"),
    [
        ("moe8_base_M", None, 0.785),
        ("moe8_R0_M", "greedyM_R0", 0.998),
        ("moe8_R8_M", "greedyM_R8", 0.999),
        ("moe8_R32_M", "greedyM_R32", 0.999),
        ("moe8_R8_fromA_M", "greedyA_R8", 0.965),
        ("moe8_uniform_M", None, 1.0),
    ],
)
def test_balance_of_a_recording_is_what_was_measured(sums, recorded, placement, measured):
    found = balance.balance(sums[recorded], loaded(placement) if placement else TRIVIAL)
    assert found == pytest.approx(measured, abs=0.0006)


@pytest.mark.parametrize(
    ("recorded", "placement", "decode", "window"),
    [("R0_M", "greedyM_R0", 0.900, 0.998), ("R8_fromA_M", "greedyA_R8", 0.956, 0.965)],
)
def test_decode_passes_are_less_balanced_than_their_sum(recorded, placement, decode, window):
    recording = steps(recorded)
    some = balance.passes(recording, 1, DECODE)
    assert len(some) >= 64
    assert balance.balance(some, loaded(placement)) == pytest.approx(decode, abs=0.0006)
    assert balance.balance(recording.sum(axis=0), loaded(placement)) == pytest.approx(window, abs=0.0006)


@pytest.mark.parametrize(("model", "ep8", "ep32"), [("q24_M", 0.59, 0.35), ("moe8_base_M", 0.64, 0.38)])
def test_recordings_folded_to_wider_ep_are_what_was_computed(sums, model, ep8, ep32):
    for ep, measured in ((8, ep8), (32, ep32)):
        found = balance.balance(sums[model], trivial(len(sums[model]), 128, 0, ep))
        assert found == pytest.approx(measured, abs=0.006)


@pytest.mark.parametrize(("placement", "of_a", "of_b"), [("greedyM_R0", 0.944, 0.945), ("greedyM_R8", 0.962, 0.962)])
def test_a_placement_for_a_mixture_is_worse_on_its_parts(sums, placement, of_a, of_b):
    assert balance.balance(sums["moe8_base_A"], loaded(placement)) == pytest.approx(of_a, abs=0.0006)
    assert balance.balance(sums["moe8_base_B"], loaded(placement)) == pytest.approx(of_b, abs=0.0006)


@pytest.mark.parametrize("redundant", [0, 8, 32])
def test_a_placement_for_both_parts_is_good_on_each_and_on_the_mixture(sums, redundant):
    """What redundancy was needed for when placed by the mixture, two windows do without."""
    parts = np.stack([sums["moe8_base_A"], sums["moe8_base_B"]])
    placement = optimise(parts, 2, redundant, objective="worst").placement
    for part in "ABM":
        assert balance.balance(sums[f"moe8_base_{part}"], placement) > 0.998
    by_mixture = place(sums["moe8_base_M"], 2, redundant)
    assert balance.balance(sums["moe8_base_A"], by_mixture) < 0.99


@pytest.mark.parametrize("recorded", ["moe8_R0_M", "moe8_R8_M", "moe8_R32_M", "moe8_R8_fromA_M"])
def test_a_placement_in_effect_leaves_the_logical_counts_alone(sums, recorded):
    same = balance.drift(sums["moe8_base_M"], sums[recorded], 16)
    assert same.correlation.min() > 0.999
    assert same.moved.max() < 0.01
    assert same.still_hot.mean() > 0.95


def test_a_placement_that_is_ignored_shows_as_permuted_counts(sums):
    """SGLang 0.5.17's Qwen3-MoE moved the weights and not the routing."""
    table = loaded("greedyM_R0").physical_to_logical
    permuted = np.zeros_like(sums["moe8_base_M"])
    np.put_along_axis(permuted, table, sums["moe8_base_M"], axis=1)
    assert np.abs(balance.drift(sums["moe8_base_M"], permuted, 16).correlation).max() < 0.5


def test_two_domains_of_traffic_drift_far(sums):
    other = balance.drift(sums["moe8_base_A"], sums["moe8_base_B"], 16)
    assert other.correlation.max() < 0.5
    assert 0.5 < other.moved.mean() < 0.7


def test_the_hot_set_persists_within_a_recording():
    shares = balance.persistence(balance.windows(balance.passes(steps("M"), 1, 2048), 4), 16)
    assert np.diag(shares) == pytest.approx(1.0)
    assert shares.min() > 0.9


def test_dense_layers_inflate_sglangs_figure_and_not_ours(sums):
    """One of five layers is dense: its 1.0 counts a fifth in SGLang's figure."""
    placement = trivial(5, 256, 8, 2)
    ours = balance.balance(sums["ds9_M"], placement)
    assert balance.sglang_balancedness(sums["ds9_M"], placement) == pytest.approx((4 * ours + 1) / 5, abs=1e-4)
    assert balance.has_experts(sums["ds9_M"]).tolist() == [False, True, True, True, True]
    assert balance.imbalance(sums["ds9_M"], placement).shape == (4,)


def test_gini_of_known_loads(sums):
    assert balance.gini(np.array([[1, 1, 1, 1], [0, 0, 0, 1]])) == pytest.approx([0.0, 0.75])
    assert balance.gini(sums["moe8_uniform_M"]).max() < 0.02
    assert balance.gini(sums["moe8_base_A"]).min() > 0.5


def test_group_sizes_hold_every_routed_token_once():
    load = np.array([[0, 0, 0, 0], [1, 2, 3, 2.0]])
    groups = balance.group_sizes(load, trivial(2, 4, 2, 2), tokens=80, top_k=2)
    assert groups.tolist() == [[[10, 20, 60], [40, 10, 20]]]
    assert balance.experts_per_gpu(256, 32, 32) == 9


def test_wider_ep_makes_larger_groups(sums):
    """The same tokens per GPU: 64, of which each goes to 8 of 128 experts."""
    load = sums["q24_M"]
    mean = [
        balance.group_sizes(load, trivial(24, 128, 0, ep), tokens=64 * ep, top_k=8).mean() for ep in (8, 16, 32, 64)
    ]
    assert mean == pytest.approx([32, 64, 128, 256])


def test_windows_leave_the_unused_buffer_out():
    recording = np.zeros((10, 2, 4), dtype=np.int32)
    recording[3:9] = 1
    assert balance.windows(recording, 3).tolist() == [[[2.0] * 4] * 2] * 3
    with pytest.raises(ValueError, match="6 passes with load do not make 7 windows"):
        balance.windows(recording, 7)


@settings(deadline=None)
@given(counts)
def test_measures_of_any_recording_are_shares(recording):
    load = recording.sum(axis=0)
    if not load.any():
        with pytest.raises(ValueError, match="without any token"):
            balance.balance(load, trivial(4, 8, 0, 2))
        with pytest.raises(ValueError, match="share no layer"):
            balance.drift(load, load, 2)
        return
    placement = trivial(4, 8, 0, 2)
    assert 0.5 <= balance.balance(load, placement) <= 1
    assert 0.5 <= balance.sglang_balancedness(load, placement) <= 1
    gini = balance.gini(load)
    assert ((gini >= -1e-12) & (gini < 1)).all()
    same = balance.drift(load, 3 * load, 2)
    assert same.moved == pytest.approx(0, abs=1e-12)
    assert same.still_hot == pytest.approx(1)
    np.testing.assert_allclose(balance.rank_loads(recording, placement).sum(axis=0), rank_load(load, placement))


@settings(deadline=None)
@given(counts, st.permutations(range(8)))
def test_concentration_does_not_depend_on_the_experts_numbers(recording, order):
    load = recording.sum(axis=0)
    np.testing.assert_allclose(balance.gini(load[:, order]), balance.gini(load))


def test_recordings_of_different_models_are_not_compared():
    with pytest.raises(ValueError, match="not of the same model"):
        balance.drift(np.ones((2, 8)), np.ones((2, 16)), 2)


def test_a_disjoint_recording_has_moved_entirely():
    there, gone = np.array([[1, 1, 0, 0]]), np.array([[0, 0, 5, 5]])
    moved = balance.drift(there, gone, 2)
    assert (moved.moved[0], moved.still_hot[0], moved.correlation[0]) == pytest.approx((1, 0, -1))


def test_balance_of_one_placement_is_mean_over_maximum():
    load = np.array([[3.0, 1, 1, 1]])
    assert balance.balance(load, Placement(np.array([[0, 1, 2, 3]]), 2)) == pytest.approx(0.75)
    assert balance.imbalance(load, Placement(np.array([[0, 1, 2, 3]]), 2)) == pytest.approx([4 / 3])
