"""The order of work, written once: the DAG files draw it as a task graph, the standalone driver walks it.

Standard library only, because every DAG file imports this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from wideloop.results.experts.sides import IN_ORDER, PLACED

#: What a stage does. Each director has one implementation of each.
Work = Literal[
    "check_request",
    "prepare_image",
    "prepare_weights",
    "measure",
    "place_experts",
    "prove_placement",
    "compare_experts",
    "run_trials",
    "run_repeats",
    "recommend",
]
Item = TypeVar("Item")

#: Consecutive failed trial runs after which a sweep stops: the cause is then not one configuration, because the study
#: asks for a point whose trial failed once more only.
MAX_FAILURES_IN_A_ROW = 3


@dataclass(frozen=True)
class MeasuredDeployment:
    """A deployment of the request's own configuration that is benchmarked and then removed.

    Attributes:
        purpose, label, repeat: what its measurements are filed under.
        record: the engine records expert distributions while it is benchmarked.
        placed: experts are balanced as the request wants it, by the recording of an earlier stage or online.
        compared: one side of a comparison of experts in order and placed, for which both are started alike.
        collect: what is taken of it after the benchmark: the recordings, or all that can be compared.
    """

    purpose: Literal["baseline", "experts"]
    label: str
    record: bool = True
    placed: bool = False
    compared: bool = False
    repeat: int = 0
    collect: Literal["recordings", "examination"] | None = None


@dataclass(frozen=True)
class Stage:
    """One stage of a cycle.

    Attributes:
        name: on the timeline; for a deployment also the task group and the first part of the deployment's name.
        work: what is done.
        needs: the stages that must have ended well before; their results are its input, in this order.
        deployment: what is measured, where ``work`` is ``measure``.
    """

    name: str
    work: Work
    needs: tuple[str, ...] = ()
    deployment: MeasuredDeployment | None = None

    @property
    def needs_placement(self) -> bool:
        """Whether the stage measures or proves a placement, so that it has no purpose without one."""
        return self.work == "prove_placement" or (self.deployment is not None and self.deployment.placed)


_PREPARATION = (
    Stage("request", "check_request"),
    Stage("image", "prepare_image", needs=("request",)),
    Stage("weights", "prepare_weights", needs=("image",)),
)


def cycle_stages(*, proves: bool = False) -> tuple[Stage, ...]:
    """The whole cycle: baseline with a recording, placement, sweep, repeats, recommendation.

    Args:
        proves: deploy the default configuration once more with the placement, and show that it is in effect.
    """
    baseline = MeasuredDeployment("baseline", "default", collect="recordings")
    placed = MeasuredDeployment("experts", PLACED, placed=True, collect="recordings")
    proof = (
        Stage("placed", "measure", needs=("experts", "baseline"), deployment=placed),
        Stage("proof", "prove_placement", needs=("baseline", "placed")),
    )
    return (
        *_PREPARATION,
        Stage("baseline", "measure", needs=("weights",), deployment=baseline),
        Stage("experts", "place_experts", needs=("baseline",)),
        *(proof if proves else ()),
        Stage("tune", "run_trials", needs=("proof",) if proves else ("experts", "baseline")),
        Stage("confirm", "run_repeats", needs=("tune",)),
        Stage("recommend", "recommend", needs=("confirm",)),
    )


def experts_stages(pairs: int) -> tuple[Stage, ...]:
    """Deployments with experts in order and placed, in ``pairs`` interleaved pairs; the first pair is examined.

    Both sides record, so that the recorder's own cost is in neither's favour.
    """
    stages = [*_PREPARATION]
    for pair, side in interleaved((IN_ORDER, PLACED), pairs):
        name = f"{side.replace(' ', '-')}-{pair}" if pair else {IN_ORDER: "recorded", PLACED: "placed"}[side]
        deployment = MeasuredDeployment(
            "experts",
            side,
            placed=side == PLACED,
            compared=True,
            repeat=pair,
            collect="examination" if pair == 0 else None,
        )
        needs = [stages[-1].name]
        if name == "placed":
            stages.append(Stage("experts", "place_experts", needs=("recorded",)))
            needs = ["experts", "recorded"]
        stages.append(Stage(name, "measure", needs=tuple(needs), deployment=deployment))
    compared = dict.fromkeys(("recorded", "placed", stages[-1].name))
    return (*stages, Stage("comparison", "compare_experts", needs=tuple(compared)))


def interleaved(items: Sequence[Item], rounds: int) -> Iterator[tuple[int, Item]]:
    """Each item once per round, with the round's number; every other round runs backwards: a b, b a, a b.

    What drifts linearly over time, such as a host that warms up, then cancels in the items' means.
    """
    for number in range(rounds):
        yield from ((number, item) for item in (items if number % 2 == 0 else reversed(items)))


def has_too_many_failures(failed: Sequence[bool]) -> bool:
    """Whether a sweep must stop, given for each ended run, in order, whether it failed."""
    last = failed[-MAX_FAILURES_IN_A_ROW:]
    return len(last) == MAX_FAILURES_IN_A_ROW and all(last)
