"""Which point to try next: the largest expected improvement among the points that fit into memory and meet the SLO."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from wideloop.tuning.sampler.cube import Cube
from wideloop.tuning.sampler.front import Front
from wideloop.tuning.sampler.memory_margin import MemoryMargin, MemoryTrial
from wideloop.tuning.sampler.physics import UNKNOWN, OfPoint, Physics
from wideloop.tuning.sampler.surrogates import Observation, Surrogates
from wideloop.tuning.space import Point, SearchSpace

Floats = npt.NDArray[np.floating[Any]]

#: Risk of running out of memory that a trial may take, and the factor on it after each trial that did.
_RISK, _RISK_FACTOR = 0.25, 0.4
#: GiB assumed left everywhere without a memory model.
_WITHOUT_MODEL_GIB = 3.0
#: Trials spread over the space before the models choose.
_SPREAD = (4, 5)
#: The constraint whose quantity makes a front with the objective.
FRONT = "tpot_p99"
#: Two trials at the same time are too similar when no coordinate differs by this share of its range.
SIMILAR = 0.1
#: States of trials that say something about memory.
_ABOUT_MEMORY = ("measured", "out_of_memory")
_CANDIDATES, _LOCAL, _ROUNDS, _FEW = 1024, 160, 4, 12


@dataclass(frozen=True)
class PastTrial:
    """One trial of the study.

    Attributes:
        state: ``measured``, ``out_of_memory``, ``refused`` (the engine did not take it) or ``running``.
        value: objective, larger is better; of a measured trial.
        violations: measured constraints, <= 0 is met.
        memory_gib: GiB per GPU that were left (measured) or missing (out of memory); None when unknown.
    """

    point: Mapping[str, float]
    state: str
    value: float | None = None
    violations: dict[str, float] = field(default_factory=dict)
    memory_gib: float | None = None


class Proposer:
    """Models of a study's trials, and the next point.

    Example:
        >>> proposer = Proposer(SearchSpace(), [], seed=1)
        >>> SearchSpace().contains(proposer.propose())
        True
    """

    def __init__(
        self, space: SearchSpace, trials: Sequence[PastTrial], *, seed: int, physics: Physics = UNKNOWN
    ) -> None:
        self._cube = Cube(space)
        self._trials = trials
        self._seed = seed
        self._random = np.random.default_rng(seed)
        self._physics = physics
        self._headrooms: dict[bytes, float] = {}
        self._expected: dict[bytes, float] = {}
        self._rows = self._cube.rows([t.point for t in trials])
        self._margin = MemoryMargin(
            self._memory_trials(), self._cube.dimensions, has_model=physics.headroom_gib is not None
        )

    def propose(self) -> Point:
        """The next point; one that was not tried before while there are any."""
        candidates = self._untried(self._cube.sobol(_CANDIDATES, self._seed))
        allowed = self._allowed(candidates)
        served = [t for t in self._trials if t.state == "measured"]
        low, high = _SPREAD
        if len(served) < 2 or len(self._trials) < min(max(self._cube.dimensions + 2, low), high):
            return self._point(_farthest(allowed, self._rows, self._random))
        models = self.models()
        incumbent = self._incumbent(models)
        front = self._front_score(models) if self._is_for_front(models, incumbent) else None
        row, _ = self._search(allowed, front or partial(self._acquisition, models, incumbent))
        return self._point(row)

    def expected_gain(self) -> float | None:
        """Expected improvement of the objective by the most promising point, relative; None without an incumbent."""
        if sum(t.state == "measured" for t in self._trials) < 2:
            return None
        models = self.models()
        incumbent = self._incumbent(models)
        if incumbent is None:
            return None
        allowed = self._allowed(self._untried(self._cube.sobol(_CANDIDATES, self._seed)))
        _, score = self._search(allowed, partial(self._acquisition, models, incumbent))
        return float(np.exp(score))

    def fits(self, points: Sequence[Point]) -> Floats:
        """Probability that each point fits into memory."""
        return self._certainty(self._cube.rows(points))

    @property
    def _served(self) -> Floats:
        """Rows of the trials that served requests."""
        return self._rows[[t.state == "measured" for t in self._trials]]

    # ---- memory

    def _memory_trials(self) -> list[MemoryTrial]:
        ended = [(t, x) for t, x in zip(self._trials, self._rows, strict=True) if t.state in _ABOUT_MEMORY]
        left = self._headroom(np.array([x for _, x in ended])) if ended else np.empty(0)
        return [
            MemoryTrial(x, float(h), t.state == "measured", t.memory_gib) for (t, x), h in zip(ended, left, strict=True)
        ]

    def _certainty(self, rows: Floats) -> Floats:
        """Probability that each row fits into memory."""
        return self._margin.fits(rows, self._headroom(rows))

    def _headroom(self, rows: Floats) -> Floats:
        if self._physics.headroom_gib is None:
            return np.full(len(rows), _WITHOUT_MODEL_GIB)
        return np.clip(self._cached(self._physics.headroom_gib, self._headrooms, rows), -200.0, 200.0)

    def _cached(self, quantity: OfPoint, cache: dict[bytes, float], rows: Floats) -> Floats:
        """The quantity at each row; a model may take a tenth of a millisecond, and rows are judged several times."""
        keys = [row.tobytes() for row in rows]
        missing = [k for k, key in enumerate(keys) if key not in cache]
        for k, point in zip(missing, self._cube.points(rows[missing]), strict=True):
            cache[keys[k]] = quantity(point)
        return np.array([cache[key] for key in keys])

    def _allowed(self, rows: Floats) -> Floats:
        """The rows whose risk is small enough; the safest tenth where hardly any is."""
        fits = self._certainty(rows)
        allowed = rows[fits >= self._least_certainty]
        few = max(len(rows) // 10, 1)
        return allowed if len(allowed) >= few else rows[np.argsort(-fits)[:few]]

    @property
    def _least_certainty(self) -> float:
        failed = sum(t.state == "out_of_memory" for t in self._trials)
        return 1 - _RISK * _RISK_FACTOR**failed

    # ---- search

    def _search(self, candidates: Floats, score: Callable[[Floats], Floats]) -> tuple[Floats, float]:
        """The row with the largest score, by samples of the whole space and then around the best of them."""
        least = min(self._least_certainty, float(self._certainty(candidates).min()))
        best, scores = candidates, score(candidates)
        for k in range(_ROUNDS):
            top = best[np.argsort(-scores)[:6]]
            near = self._untried(self._cube.snapped(self._around(top, 0.25 * 0.5**k)))
            near = near[self._certainty(near) >= least]
            if len(near):
                best = np.vstack([top, near])
                scores = score(best)
        chosen = int(np.argmax(scores))
        return best[chosen], float(scores[chosen])

    def _around(self, rows: Floats, width: float) -> Floats:
        """Random changes of the rows: of all coordinates, or of one."""
        chosen = rows[self._random.integers(len(rows), size=_LOCAL)]
        change = self._random.normal(scale=width, size=chosen.shape)
        one = np.eye(chosen.shape[1])[self._random.integers(chosen.shape[1], size=_LOCAL)]
        single = self._random.random(_LOCAL) < 0.5
        result: Floats = chosen + np.where(single[:, None], 2 * change * one, change)
        return result

    def models(self) -> Surrogates:
        """The models of what was measured; a default beside its own placement is left out (two values at one point)."""
        observations = [
            Observation(x, t.value if t.state == "measured" else None, t.violations)
            for t, x in zip(self._trials, self._rows, strict=True)
            if t.state in ("measured", "running")
        ]
        return Surrogates(observations, self._log_expected if self._physics.expected_value is not None else None)

    def _log_expected(self, rows: Floats) -> Floats:
        assert self._physics.expected_value is not None
        return np.log(np.maximum(self._cached(self._physics.expected_value, self._expected, rows), 1e-9))

    def _incumbent(self, models: Surrogates) -> float | None:
        """The best expected objective of a measured trial that probably meets its constraints; None without one."""
        served = self._served
        mean, _ = models.value(served)
        probable = models.log_feasible(served) >= np.log(0.5)
        return float(mean[probable].max()) if probable.any() else None

    def _acquisition(self, models: Surrogates, incumbent: float | None, rows: Floats) -> Floats:
        """log(expected improvement x probability of feasibility); before anything is feasible, the latter alone."""
        fits = self._certainty(rows)
        score = models.log_feasible(rows, margin=0.5) + np.log(np.maximum(fits, 1e-12))
        if incumbent is None:
            mean, deviation = models.value(rows)
            return score + mean + deviation**2 / 2
        mean, deviation = models.value(rows)
        result: Floats = score + _log_improvement((mean - incumbent) / deviation) + np.log(deviation)
        return result

    def _is_for_front(self, models: Surrogates, incumbent: float | None) -> bool:
        """Every other trial once the limits are met: what other limits would cost is worth knowing, too."""
        return incumbent is not None and models.constraint(FRONT) is not None and len(self._trials) % 3 == 0

    def _front_score(self, models: Surrogates) -> Callable[[Floats], Floats] | None:
        """log(expected gain of the front's area x probability that everything but its latency is met)."""
        served = self._served
        latency = models.constraint(FRONT)
        assert latency is not None
        usable = served[models.log_feasible(served, without=FRONT) >= np.log(0.5)]
        if not len(usable):
            return None
        front = Front(np.exp(models.value(usable)[0]), np.exp(latency.predict(usable)[0]))

        def score(rows: Floats) -> Floats:
            gain = front.expected_gain(models.value(rows), latency.predict(rows), np.random.default_rng(self._seed))
            likely = models.log_feasible(rows, margin=0.5, without=FRONT) + np.log(
                np.maximum(self._certainty(rows), 1e-12)
            )
            result: Floats = np.log(np.maximum(gain, 1e-300)) + likely
            return result

        return score

    # ---- rows

    def _untried(self, rows: Floats) -> Floats:
        """The rows that were not tried and are not similar to a running trial; all of them where none is left."""
        if not len(self._rows) or not len(rows):
            return rows
        distance = np.abs(rows[:, None, :] - self._rows[None, :, :]).max(axis=2)
        least = np.where([t.state == "running" for t in self._trials], SIMILAR, 1e-6)
        untried: Floats = rows[np.all(distance > least, axis=1)]
        return untried if len(untried) else rows

    def _point(self, row: Floats) -> Point:
        return self._cube.points(row[None, :])[0]


def _farthest(candidates: Floats, tried: Floats, random: np.random.Generator) -> Floats:
    """Of some random candidates the one farthest from all that was tried; of all of them it would be a corner."""
    few: Floats = candidates[random.permutation(len(candidates))[:_FEW]]
    if not len(tried):
        row: Floats = few[0]
        return row
    distance = np.linalg.norm(few[:, None, :] - tried[None, :, :], axis=2).min(axis=1)
    farthest: Floats = few[int(np.argmax(distance))]
    return farthest


def _log_improvement(z: Floats) -> Floats:
    """log of the expected improvement of a standard normal variable over -z, also far in the tail."""
    from scipy.special import log_ndtr

    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    near = np.log(np.maximum(density + z * np.exp(log_ndtr(z)), 1e-300))
    far = -0.5 * z**2 - 0.5 * np.log(2 * np.pi) - 2 * np.log(np.maximum(-z, 1.0))
    result: Floats = np.where(z > -8, near, far)
    return result
