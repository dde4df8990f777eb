"""How much sequences differ is taken from a recording's windows, and no expert is more popular than it can be."""

from __future__ import annotations

import numpy as np
import pytest
from wideloop.manifests import profiles
from wideloop.tuning.popularity import ASSUMED_VARIATION, popularity, sequence_variation, step_variation

LAYERS, EXPERTS, TOP_K, LENGTH = 24, 32, 4, 500


def recorded(variation: float, sequences: int, windows: int = 16) -> np.ndarray:
    """Windows of ``sequences`` sequences each, whose popularity differs from the mean."""
    random = np.random.default_rng(1)
    mean = np.exp(0.5 * random.normal(size=(LAYERS, EXPERTS)))
    counts = np.zeros((windows, LAYERS, EXPERTS))
    for window in range(windows):
        for _ in range(sequences):
            own = mean * np.exp(np.sqrt(variation) * random.normal(size=mean.shape))
            counts[window] += random.multinomial(LENGTH * TOP_K, own / own.sum(axis=1, keepdims=True))
    return counts


@pytest.mark.parametrize("variation", [0.0, 0.05, 0.2])
def test_the_variation_of_sequences_is_found_again(variation: float) -> None:
    assert sequence_variation(recorded(variation, 8), TOP_K, LENGTH) == pytest.approx(variation, rel=0.3, abs=0.005)


def test_traffic_that_changes_does_not_count_as_more_than_is_assumed() -> None:
    counts = recorded(0.0, 40)
    counts[8:] = counts[8:, :, ::-1]
    assert sequence_variation(counts, TOP_K, LENGTH) == ASSUMED_VARIATION


def test_one_window_shows_no_variation() -> None:
    assert sequence_variation(recorded(0.2, 8, windows=1), TOP_K, LENGTH) == 0.0
    assert step_variation(1.0, 0.0) == 0.0


@pytest.mark.parametrize("name", ["DeepSeek-R1", "Mixtral-8x7B", "Qwen3-235B-A22B"])
def test_no_expert_is_chosen_by_more_than_all_tokens(name: str) -> None:
    model = profiles.model(name)
    share = popularity(model)
    assert share.max() <= 1 / model.top_k
    assert np.allclose(share.sum(axis=1), 1)
