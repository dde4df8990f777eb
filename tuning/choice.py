"""Which of the measured configurations to recommend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from wideloop.tuning.sampler.physics import Physics
from wideloop.tuning.space import SearchSpace

if TYPE_CHECKING:
    from wideloop.tuning.sampler.proposal import PastTrial
    from wideloop.tuning.study import Result

#: Share of the objective that a configuration gives up for each unit of log(probability that it meets its limits).
_CAUTION = 0.2
#: Configurations whose expected objectives differ by less than this are equally good: none is worth a GPU-hour to tell.
EQUAL = 0.01
#: A knob is changed when it differs from the default by more than this share of its range.
_CHANGED = 0.02
#: Results from which the models are better than the measurements alone.
_ENOUGH = 4


def ranking(
    results: Sequence[Result], space: SearchSpace, trials: Sequence[PastTrial], physics: Physics
) -> list[list[Result]]:
    """The feasible results in groups of equally good ones, best first.

    The largest measured value is the luckiest one, and a latency just below its limit misses it half of the time when
    measured again. So results are ordered by what the models of all trials expect of them, less a caution for the
    probability that a limit is missed. Within a group the first has the fewest knobs changed from the default, then the
    most memory to spare, then the fewest redundant experts.
    """
    feasible = [r for r in results if r.feasible]
    if not feasible:
        return []
    scores = _scores(feasible, space, trials, physics)
    default = next((r.point for r in results if r.kind == "default"), None)
    groups: list[list[Result]] = []
    best = float("inf")
    for result in sorted(feasible, key=lambda r: -scores[r.number]):
        if scores[result.number] < best - EQUAL:
            best = scores[result.number]
            groups.append([])
        groups[-1].append(result)
    return [sorted(group, key=lambda r: _simplicity(r, default, space, physics)) for group in groups]


def _scores(
    feasible: Sequence[Result], space: SearchSpace, trials: Sequence[PastTrial], physics: Physics
) -> Mapping[int, float]:
    """Logarithm of the expected objective less the caution, by trial; of the measured one where there are few."""
    import numpy as np

    served = [t for t in trials if t.state == "measured"]
    if len(served) < _ENOUGH or len(feasible) < 2:
        return {r.number: float(np.log(max(r.value, 1e-9))) for r in feasible}
    from wideloop.tuning.sampler.cube import Cube
    from wideloop.tuning.sampler.proposal import Proposer

    models = Proposer(space, served, seed=0, physics=physics).models()
    rows = Cube(space).rows([r.point for r in feasible])
    score = models.value(rows)[0] + _CAUTION * models.log_feasible(rows)
    return {r.number: float(s) for r, s in zip(feasible, score, strict=True)}


def _simplicity(
    result: Result, default: Mapping[str, float] | None, space: SearchSpace, physics: Physics
) -> tuple[float, ...]:
    """Sorts the simplest and safest configuration first."""
    left = 0.0 if physics.headroom_gib is None else physics.headroom_gib(result.point)
    redundant = sum(result.point[d.name] for d, _ in space.dimensions if d.knob == "redundant_experts")
    return len(changes(result.point, default or {}, space)), -left, redundant, result.number


def changes(point: Mapping[str, float], default: Mapping[str, float], space: SearchSpace) -> list[str]:
    """The dimensions in which ``point`` differs from ``default`` by more than a fiftieth of the range."""
    import numpy as np

    changed = []
    for dimension, bounds in space.dimensions:
        if dimension.name in default:
            ends = dimension.to_unit(bounds, np.array([point[dimension.name], default[dimension.name]]))
            if abs(ends[0] - ends[1]) > _CHANGED:
                changed.append(dimension.name)
    return changed


def least_violating(results: Sequence[Result]) -> tuple[Result, str] | None:
    """The measured result that misses its limits least, and the constraint that it misses most; None without any."""
    measured = [r for r in results if r.outcome == "measured"]
    if not measured:
        return None
    closest = min(measured, key=lambda r: max(r.constraints.values()))
    return closest, max(closest.constraints, key=lambda name: closest.constraints[name])
