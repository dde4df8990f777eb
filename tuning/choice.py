"""Which of the measured configurations to recommend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wideloop.tuning.sampler.physics import Physics
from wideloop.tuning.space import SearchSpace

if TYPE_CHECKING:
    from wideloop.tuning.sampler.proposal import PastTrial
    from wideloop.tuning.study import Result

#: Share of the objective that a configuration gives up for each unit of log(probability that it meets its limits).
_CAUTION = 0.2
#: Results from which the models are better than the measurements alone.
_ENOUGH = 4


def ranking(
    results: Sequence[Result], space: SearchSpace, trials: Sequence[PastTrial], physics: Physics
) -> list[Result]:
    """The feasible results, best first.

    The largest measured value is the luckiest one, and a latency just below its limit misses it half of the time when
    measured again. So results are ordered by what the models of all trials expect of them, less a caution for the
    probability that a limit is missed.
    """
    feasible = sorted((r for r in results if r.feasible), key=lambda r: -r.value)
    served = [t for t in trials if t.state == "measured"]
    if len(served) < _ENOUGH or len(feasible) < 2:
        return feasible
    from wideloop.tuning.sampler.cube import Cube
    from wideloop.tuning.sampler.proposal import Proposer

    models = Proposer(space, served, seed=0, physics=physics).models()
    rows = Cube(space).rows([r.point for r in feasible])
    score = models.value(rows)[0] + _CAUTION * models.log_feasible(rows)
    return [feasible[k] for k in (-score).argsort(kind="stable")]
