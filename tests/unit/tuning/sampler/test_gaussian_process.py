"""Predictions from few and noisy measurements."""

from __future__ import annotations

import numpy as np
import pytest
from wideloop.tuning.sampler.gaussian_process import GaussianProcess


def surface(x: np.ndarray) -> np.ndarray:
    """Optimum inside, one knob without effect."""
    result: np.ndarray = -((x[:, 0] - 0.3) ** 2) - 0.5 * (x[:, 1] - 0.8) ** 2
    return result


def measured(count: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.random((count, 3))
    return x, surface(x) + random.normal(scale=noise, size=count)


def test_it_predicts_a_smooth_function_from_thirty_measurements() -> None:
    x, y = measured(30, 0.005)
    new = np.random.default_rng(9).random((200, 3))
    mean, deviation = GaussianProcess(x, y, noise=0.005).predict(new)
    assert np.sqrt(np.mean((mean - surface(new)) ** 2)) < 0.03
    assert np.mean(np.abs(mean - surface(new)) < 3 * deviation) > 0.95


def test_an_outlier_moves_the_prediction_less_than_its_distance() -> None:
    x, y = measured(25, 0.01)
    clean = GaussianProcess(x, y, noise=0.01).predict(x[:1])[0][0]
    y[0] += 0.5
    assert abs(GaussianProcess(x, y, noise=0.01).predict(x[:1])[0][0] - clean) < 0.25


def test_equal_measurements_predict_themselves() -> None:
    x, _ = measured(6, 0.0)
    mean, _ = GaussianProcess(x, np.full(6, 2.0), noise=0.03).predict(x)
    assert mean == pytest.approx(np.full(6, 2.0), abs=1e-6)


def test_one_point_measured_twice_with_two_values_is_no_error() -> None:
    x = np.array([[0.2, 0.2], [0.2, 0.2], [0.9, 0.4]])
    mean, deviation = GaussianProcess(x, np.array([1.0, 2.0, 1.5]), noise=0.03).predict(x)
    assert np.all(np.isfinite(mean)) and np.all(deviation > 0)


def test_a_believed_point_becomes_certain_and_keeps_its_mean() -> None:
    x, y = measured(12, 0.01)
    process, new = GaussianProcess(x, y, noise=0.01), np.array([[0.1, 0.9, 0.5]])
    mean, deviation = process.predict(new)
    believed, less = process.believing(new).predict(new)
    assert believed == pytest.approx(mean, abs=0.02) and less[0] < deviation[0]
