"""Which configuration is compared with the default: the best one, or the next when its repeats speak against it."""

from __future__ import annotations

from dataclasses import dataclass

from wideloop.manifests.errors import WideloopError
from wideloop.operators.request import Request
from wideloop.operators.steps.confirmation import read_confirmation
from wideloop.operators.steps.plan import open_study
from wideloop.operators.steps.run import Run
from wideloop.operators.steps.trial import DEFAULT
from wideloop.tuning.choice import least_violating
from wideloop.tuning.study import Result, TuningStudy

#: Configurations that are confirmed at most, one after the other.
_MOST = 3


class SweepFailed(WideloopError):
    """Neither continuing nor a retry can succeed; the message says what would help."""


@dataclass(frozen=True)
class Finalists:
    """What the repeats compare.

    Attributes:
        default: number of the default's trial.
        tried: numbers of the best configurations, in the order in which they are confirmed; all but the last failed
            their repeats. Empty: no trial met the objectives.
        equal: trials that are as good as the last one, as far as the models can tell.
    """

    study: TuningStudy
    default: int
    tried: tuple[int, ...]
    equal: tuple[int, ...] = ()

    @property
    def best(self) -> int | None:
        """The configuration to recommend; None when no trial met the objectives."""
        return self.tried[-1] if self.tried else None


def read_finalists(request: Request, run: Run) -> Finalists:
    """The finalists of this run's cycle, given the repeats so far.

    Raises:
        SweepFailed: the default was never measured.
    """
    study = open_study(request, run)
    default = study.number_of(DEFAULT)
    if default is None:
        raise SweepFailed("the default configuration was never measured, so there is nothing to compare with")
    groups = study.ranking()
    tried: list[int] = []
    for number in [r.number for group in groups for r in group][:_MOST]:
        if number == default and tried:
            break  # The failed repeats say more than that nothing else beats the default.
        tried.append(number)
        if number == default or not read_confirmation(request, run, number, default).disqualifies:
            break
    equal = next((group for group in groups if tried and tried[-1] in [r.number for r in group]), [])
    return Finalists(study, default, tuple(tried), tuple(r.number for r in equal if r.number not in tried))


def closest_miss(study: TuningStudy) -> tuple[Result, str]:
    """The trial that misses the objectives least, and a sentence about the one in its way.

    Raises:
        SweepFailed: no configuration could run.
    """
    closest = least_violating(study.results())
    if closest is None:
        raise SweepFailed(
            "no configuration could run: every trial ran out of memory or was refused by the engine. Take larger "
            "hardware, or widen the bounds towards less memory"
        )
    result, name = closest
    missed = result.constraints[name]
    by = f"{missed:.1%} more of its requests failed than" if name == "error_rate" else f"{name} is {missed:.1%} above"
    return result, (
        f"no trial met the objectives; trial {result.number} misses them least: {by} the limit. Relax that limit, "
        "lower the concurrency or take larger hardware"
    )
