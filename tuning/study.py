"""A study of trials that several processes use, one trial each, and that survives the end of any of them.

Optuna's storage holds the state of all trials; the points come from :mod:`wideloop.tuning.sampler`. This module adds
five rules: a retry gets the same trial again; a second result of a trial is ignored; out-of-memory is a result while a
broken node is not (state FAIL, the point is asked again); two runs that ask at once get different points; and a trial
whose process ended before it recorded its run is closed.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict
from wideloop.tuning.sampler.physics import UNKNOWN, Physics
from wideloop.tuning.space import Point, SearchSpace

if TYPE_CHECKING:
    import optuna
    from wideloop.tuning.sampler.proposal import PastTrial

Outcome = Literal["measured", "infeasible", "refused"]

#: How often a point is asked again whose trial failed for another reason than its configuration. Once, so that three
#: failures in a row are never due to one configuration.
MAX_RETRIES = 1

#: Constraint of every trial, and those of trials that served requests.
OUT_OF_MEMORY = "oom_gib"
OBJECTIVES = ("ttft_p99", "tpot_p99", "error_rate")
#: Constraint value of a trial that ran: memory to spare, amount unknown (negative = feasible).
_RAN = -1.0

#: Seconds within which a run that took a queued point records its name; a trial without one is closed after them.
_NAMELESS_S = 5.0
#: How often a run chooses again because others asked for a similar point at the same moment.
_ASKS = 8

_RUN, _OUTCOME, _KIND, _WHY, _RETRY, _INSTEAD_OF = "run", "outcome", "kind", "why", "retries", "instead_of"
_MEMORY = "memory_gib"

#: Kind of a seed by its sentence, for studies that were stored before kinds existed.
_KIND_OF_SENTENCE = {
    "the recorded placement alone": "placement",
    "the recorded placement and more slots alone": "redundancy",
    "one more expert slot, all memory that is safe": "safe",
    "just beyond the model's edge of memory": "edge",
    "the largest prefill chunk alone": "chunk",
    "certainly out of memory": "out_of_memory",
}


class Asked(BaseModel):
    """A point to measure. ``finished``: its result exists already, because a retry asked for the same trial."""

    model_config = ConfigDict(frozen=True)

    number: int
    point: Point
    kind: str
    why: str
    finished: bool = False


class Result(BaseModel):
    """A finished trial: its objective and its constraints, which are met at <= 0.

    ``memory_gib``: GiB per GPU left under load, or missing where it ran out of memory; None when unknown.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    point: Point
    outcome: Outcome
    value: float
    constraints: dict[str, float]
    kind: str = "sampler"
    memory_gib: float | None = None

    @property
    def feasible(self) -> bool:
        return self.outcome == "measured" and all(v <= 0 for v in self.constraints.values())


class TuningStudy:
    """One sweep. Maximises one objective over a :class:`~wideloop.tuning.space.SearchSpace`.

    Args:
        physics: the models of what is known of a point before it is tried.
    """

    def __init__(self, study: optuna.Study, space: SearchSpace, seed: int, physics: Physics = UNKNOWN) -> None:
        self._study = study
        self._space = space
        self._seed = seed
        self._physics = physics

    @classmethod
    def open(cls, url: str, name: str, space: SearchSpace, seed: int, physics: Physics = UNKNOWN) -> TuningStudy:
        """Create the study, or load it with the space that it was created with.

        Raises:
            StoreUnavailable: the database cannot be used.
        """
        import optuna
        from sqlalchemy.exc import SQLAlchemyError
        from wideloop.tuning.study_database import open_storage, unavailable

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = open_storage(url)
        try:
            study = optuna.create_study(
                storage=storage,
                study_name=name,
                direction="maximize",
                load_if_exists=True,
                sampler=optuna.samplers.RandomSampler(),  # Never used: points are chosen in `_propose`.
            )
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            raise unavailable(url, error) from error
        kept = study.user_attrs.get("space")
        if kept is None:
            study.set_user_attr("space", space.model_dump())
        else:
            space = SearchSpace.model_validate(kept)
        return cls(study, space, seed, physics)

    @property
    def space(self) -> SearchSpace:
        return self._space

    @property
    def physics(self) -> Physics:
        return self._physics

    def headroom_gib(self, point: Point) -> float:
        """GiB per GPU that the memory model sees left at ``point``; negative: missing; 0 without a model."""
        return 0.0 if self._physics.headroom_gib is None else self._physics.headroom_gib(point)

    # ---- before the first trial

    def add_measured(
        self, point: Point, value: float, constraints: Mapping[str, float], kind: str, memory_gib: float | None = None
    ) -> int:
        """Add a configuration that was measured elsewhere (the baseline); once per ``kind``."""
        import optuna

        for trial in self._study.trials:
            if _kind(trial.user_attrs) == kind:
                return int(trial.number)
        attrs = {_KIND: kind, _WHY: kind, _OUTCOME: "measured", _RUN: kind, _MEMORY: memory_gib}
        self._study.add_trial(
            optuna.trial.create_trial(
                params=dict(point),
                distributions=self._space.distributions(),
                value=value,
                constraints=_with_memory(constraints, memory_gib),
                user_attrs=attrs,
            )
        )
        return self.add_measured(point, value, constraints, kind)

    def enqueue(self, point: Point, kind: str, why: str | None = None) -> None:
        """Queue ``point`` before the sampler's points; once per ``kind``. ``why`` is a reason for people.

        Raises:
            ValueError: the point lies outside the space (Optuna would hand it out silently).
        """
        if not self._space.contains(point):
            raise ValueError(f"{kind}: {point} lies outside {self._space}")
        if all(_kind(t.user_attrs) != kind for t in self._study.trials):
            self._study.enqueue_trial(dict(point), user_attrs={_KIND: kind, _WHY: why or kind})

    # ---- asking

    def ask(self, run: str) -> Asked:
        """The trial of ``run``: its earlier trial unless that failed, else a new one."""
        import optuna

        self._close_nameless()
        for trial in self._study.trials:
            if trial.user_attrs.get(_RUN) == run and trial.state != optuna.trial.TrialState.FAIL:
                point = self._space.rounded(trial.params)
                return self._asked(trial.number, point, trial.user_attrs, finished=trial.state.is_finished())
        return self._take_queued(run) or self._propose(run)

    def _asked(self, number: int, point: Point, attrs: Mapping[str, Any], finished: bool = False) -> Asked:
        return Asked(number=number, point=point, kind=_kind(attrs), why=attrs.get(_WHY, "sampler"), finished=finished)

    def _take_queued(self, run: str) -> Asked | None:
        """The first queued point that no other run takes at the same time; None when the queue is empty."""
        import optuna

        for waiting in self._study.get_trials(states=(optuna.trial.TrialState.WAITING,)):
            if not self._study._storage.set_trial_state_values(waiting._trial_id, optuna.trial.TrialState.RUNNING):
                continue
            trial = optuna.trial.Trial(self._study, waiting._trial_id)
            point = self._space.suggest(trial)
            # The run is recorded last: a trial that has it is complete.
            trial.set_user_attr(_RUN, run)
            return self._asked(waiting.number, point, waiting.user_attrs)
        return None

    def _propose(self, run: str) -> Asked:
        """A new trial at the sampler's point, which is stored with its run in one transaction.

        Runs that ask at the same time choose from the same results. The later one of two similar trials is withdrawn,
        and its run chooses again with the other one in view.
        """
        import optuna

        for left in reversed(range(_ASKS)):
            trials = self._study.get_trials(deepcopy=False)
            point = self._proposer(trials).propose()
            number = self._add_running(point, run)
            rival = self._similar(point, range(len(trials), number))
            if rival is None or not left:
                return self._asked(number, point, {})
            trial = optuna.trial.Trial(self._study, self._study.trials[number]._trial_id)
            trial.set_user_attr(_WHY, f"withdrawn: trial {rival} asked for a similar point at the same moment")
            self._study.tell(number, state=optuna.trial.TrialState.FAIL)
        raise AssertionError("unreachable")

    def _proposer(self, trials: Sequence[optuna.trial.FrozenTrial]) -> Any:
        from wideloop.tuning.sampler.proposal import Proposer

        digest = hashlib.sha256(f"{self._study.study_name}/{self._seed}/{len(trials)}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big")
        return Proposer(self._space, list(self._past(trials)), seed=seed, physics=self._physics)

    def _add_running(self, point: Point, run: str) -> int:
        import optuna

        template = optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING,
            params=dict(point),
            distributions=self._space.distributions(),
            user_attrs={_RUN: run},
        )
        storage = self._study._storage
        trial_id = storage.create_new_trial(self._study._study_id, template_trial=template)
        return int(storage.get_trial_number_from_id(trial_id))

    def _similar(self, point: Point, numbers: range) -> int | None:
        """The number of the first trial of ``numbers`` that is unfinished and near ``point``."""
        import numpy as np
        from wideloop.tuning.sampler.cube import Cube
        from wideloop.tuning.sampler.proposal import SIMILAR

        cube = Cube(self._space)
        for number in numbers:
            trial = self._study.trials[number]
            if trial.state.name == "RUNNING" and trial.params:
                apart = np.abs(np.diff(cube.rows([point, self._space.rounded(trial.params)]), axis=0))
                if apart.max() <= SIMILAR:
                    return number
        return None

    def _past(self, trials: Sequence[optuna.trial.FrozenTrial]) -> Iterator[PastTrial]:
        """The trials from which the sampler learns: finished ones with a result, and running ones.

        The default is left out where another trial has measured its point: it is another configuration then, without
        the recorded placement.
        """
        from wideloop.tuning.sampler.proposal import PastTrial

        results = {r.number: r for r in self.results(trials)}
        points = [r.point for r in results.values() if r.kind != "default"]
        for trial in trials:
            if trial.state.name == "RUNNING" and trial.params:
                yield PastTrial(self._space.rounded(trial.params), "running")
            result = results.get(trial.number)
            if result is None or (result.kind == "default" and result.point in points):
                continue
            measured = result.outcome == "measured"
            states = {"measured": "measured", "infeasible": "out_of_memory", "refused": "refused"}
            yield PastTrial(
                result.point,
                states[result.outcome],
                result.value if measured else None,
                {k: v for k, v in result.constraints.items() if k != OUT_OF_MEMORY} if measured else {},
                result.memory_gib,
            )

    def _close_nameless(self) -> None:
        """Fail trials whose process ended before it recorded its run: no process would ever finish them.

        A queued point is queued again, because it was not tried.
        """
        import optuna

        for trial in self._study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            if _RUN in trial.user_attrs or self._is_named_in_time(trial):
                continue
            point = trial.system_attrs.get("fixed_params")
            if point:
                kept = {k: v for k, v in trial.user_attrs.items() if k in (_KIND, _WHY, _RETRY)}
                self._ask_again(trial.number, point, kept)
            self._study.tell(trial.number, state=optuna.trial.TrialState.FAIL, skip_if_finished=True)

    def _is_named_in_time(self, trial: optuna.trial.FrozenTrial) -> bool:
        """Wait until the process that has just taken the trial has recorded its run, or should have."""
        deadline = time.monotonic() + _NAMELESS_S
        while time.monotonic() < deadline:
            if _RUN in self._study.trials[trial.number].user_attrs:
                return True
            time.sleep(0.1)
        return _RUN in self._study.trials[trial.number].user_attrs

    def _ask_again(self, number: int, point: Mapping[str, float], attrs: Mapping[str, Any]) -> None:
        """Queue the point of a trial that is about to be closed; once, however often the closing process is retried."""
        if all(t.user_attrs.get(_INSTEAD_OF) != number for t in self._study.trials):
            self._study.enqueue_trial(dict(point), user_attrs={**attrs, _INSTEAD_OF: number})

    # ---- telling

    def tell_measured(
        self, number: int, value: float, constraints: Mapping[str, float], memory_gib: float | None = None
    ) -> None:
        """Finish a trial with its objective and :data:`OBJECTIVES`. Telling a finished trial changes nothing.

        ``memory_gib``: GiB per GPU that were left under load, where the engine says so.
        """
        self._tell(number, "measured", value, _with_memory(constraints, memory_gib), memory_gib)

    def tell_infeasible(self, number: int, deficit_gib: float | None = None) -> None:
        """Finish a trial that ran out of memory.

        ``deficit_gib``: GiB per GPU that were missing at least; None where the log does not say. The objective is set
        to the worst value so far, for Optuna's views only: the sampler learns the limit of memory from such trials and
        nothing else.
        """
        self._tell(number, "infeasible", self._worst(), {OUT_OF_MEMORY: max(deficit_gib or 0.0, 1e-3)}, deficit_gib)

    def tell_refused(self, number: int) -> None:
        """Finish a trial whose engine refused the configuration for another reason than memory."""
        self._tell(number, "refused", self._worst(), {OUT_OF_MEMORY: 1e-3}, None)

    def tell_failed(self, number: int) -> None:
        """Close a trial that gave no result for its point, and queue the point again with the same reason."""
        import optuna

        trial = self._study.trials[number]
        if trial.state.is_finished():
            return
        retries = int(trial.user_attrs.get(_RETRY, 0))
        if retries < MAX_RETRIES:
            attrs = {_WHY: f"again after trial {number} failed"} | trial.user_attrs
            kept = {k: v for k, v in attrs.items() if k in (_KIND, _WHY)}
            self._ask_again(number, trial.params, {**kept, _RETRY: retries + 1})
        self._study.tell(number, state=optuna.trial.TrialState.FAIL)

    def abandon(self, run: str) -> int | None:
        """Close the trial of a run that ended without a result and enqueue its point again; returns its number."""
        import optuna

        for trial in self._study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            if trial.user_attrs.get(_RUN) == run:
                self.tell_failed(trial.number)
                return int(trial.number)
        return None

    def _tell(
        self,
        number: int,
        outcome: Outcome,
        value: float,
        constraints: Mapping[str, float],
        memory_gib: float | None,
    ) -> None:
        import optuna

        frozen = self._study.trials[number]
        if frozen.state.is_finished():
            return
        trial = optuna.trial.Trial(self._study, frozen._trial_id)
        for name, violation in constraints.items():
            trial.set_constraint(name, violation)
        trial.set_user_attr(_OUTCOME, outcome)
        trial.set_user_attr(_MEMORY, memory_gib)
        self._study.tell(number, value)

    def _worst(self) -> float:
        return min((r.value for r in self.results() if r.outcome == "measured"), default=0.0)

    # ---- reading

    def results(self, trials: Sequence[optuna.trial.FrozenTrial] | None = None) -> list[Result]:
        """Finished trials with a result, by number."""
        return [
            Result(
                number=t.number,
                point=self._space.rounded(t.params),
                outcome=t.user_attrs[_OUTCOME],
                value=t.value,
                constraints=dict(t.constraints),
                kind=_kind(t.user_attrs),
                memory_gib=t.user_attrs.get(_MEMORY),
            )
            for t in (self._study.trials if trials is None else trials)
            if t.value is not None and _OUTCOME in t.user_attrs
        ]

    def result(self, number: int) -> Result:
        """The finished trial of that number.

        Raises:
            LookupError: there is none.
        """
        for result in self.results():
            if result.number == number:
                return result
        raise LookupError(f"study {self._study.study_name} has no finished trial {number}")

    def finished_runs(self) -> set[str]:
        """The runs whose trials have a result."""
        numbers = {r.number for r in self.results()}
        return {str(t.user_attrs[_RUN]) for t in self._study.trials if t.number in numbers and _RUN in t.user_attrs}

    def why(self, number: int) -> str:
        """Why the trial of that number was tried."""
        return str(self._study.trials[number].user_attrs.get(_WHY, "sampler"))

    def kind(self, number: int) -> str:
        """The seed's kind of the trial of that number; ``sampler`` when it is no seed."""
        return _kind(self._study.trials[number].user_attrs)

    def number_of(self, kind: str) -> int | None:
        """The number of the finished trial of that kind of seed."""
        numbers = {r.number for r in self.results()}
        return next((t.number for t in self._study.trials if _kind(t.user_attrs) == kind and t.number in numbers), None)

    def best(self) -> Result | None:
        """The result to recommend, None when no trial met every constraint."""
        return next((group[0] for group in self.ranking()), None)

    def ranking(self) -> list[list[Result]]:
        """The feasible results in groups of equally good ones, best first: by the models of all trials."""
        from wideloop.tuning.choice import ranking

        past = [t for t in self._past(self._study.get_trials(deepcopy=False)) if t.state != "running"]
        return ranking(self.results(), self._space, past, self._physics)

    def expected_gain(self) -> float | None:
        """Gain to expect of the most promising trial, relative to the best; None before a trial met the limits."""
        gain: float | None = self._proposer(self._study.get_trials(deepcopy=False)).expected_gain()
        return gain


def _kind(attrs: Mapping[str, Any]) -> str:
    """The kind of a seed, also of studies that stored its sentence alone; ``sampler`` for all other trials."""
    why = str(attrs.get(_WHY, "sampler"))
    return str(attrs.get(_KIND) or _KIND_OF_SENTENCE.get(why, why))


def _with_memory(constraints: Mapping[str, float], memory_gib: float | None) -> dict[str, float]:
    """The constraints of a trial that ran: what was measured of its objectives, and its memory to spare."""
    left = _RAN if memory_gib is None else -max(memory_gib, 1e-3)
    return {OUT_OF_MEMORY: left} | {name: constraints[name] for name in OBJECTIVES if name in constraints}
