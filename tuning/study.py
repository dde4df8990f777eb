"""An Optuna study that several processes use, one trial each, and that survives the end of any of them.

Optuna's storage holds the state of all trials. This module adds four rules: a retry gets the same trial again; a
second result of a trial is ignored; out-of-memory is a result (a violated constraint) while a broken node is not
(state FAIL, the point is asked again); and a trial whose process ended before it recorded its run is closed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict
from wideloop.manifests.errors import StoreUnavailable
from wideloop.tuning.space import Point, SearchSpace

if TYPE_CHECKING:
    import optuna

Outcome = Literal["measured", "infeasible"]

#: How often a point is asked again whose trial failed for another reason than its configuration. Once, so that three
#: failures in a row are never due to one configuration.
MAX_RETRIES = 1

#: Constraints of every trial: GPSampler refuses a study whose trials have different constraints.
OUT_OF_MEMORY = "oom_gib"
OBJECTIVES = ("ttft_p99", "tpot_p99", "error_rate")
#: Constraint value of a trial that ran: memory to spare, amount unknown (negative = feasible).
_RAN = -1.0
#: Value of an objective constraint that was never measured: 0, the boundary between met and missed.
_UNKNOWN = 0.0

#: Database errors for a table, or a row of its version, that another process has just created.
_MADE_BY_ANOTHER = ("already exists", "UNIQUE constraint", "unique constraint", "duplicate key")
_TRIES = 5

_RUN, _OUTCOME, _KIND, _WHY, _RETRY, _INSTEAD_OF = "run", "outcome", "kind", "why", "retries", "instead_of"

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
    """A finished trial: its objective and its constraints, which are met at <= 0."""

    model_config = ConfigDict(frozen=True)

    number: int
    point: Point
    outcome: Outcome
    value: float
    constraints: dict[str, float]

    @property
    def feasible(self) -> bool:
        return self.outcome == "measured" and all(v <= 0 for v in self.constraints.values())


class TuningStudy:
    """One sweep. Maximises one objective over a :class:`~wideloop.tuning.space.SearchSpace`."""

    def __init__(self, study: optuna.Study, space: SearchSpace, seed: int) -> None:
        self._study = study
        self._space = space
        self._seed = seed

    @classmethod
    def open(cls, url: str, name: str, space: SearchSpace, seed: int) -> TuningStudy:
        """Create the study, or load it with the space that it was created with.

        Raises:
            StoreUnavailable: the database cannot be used.
        """
        import optuna
        from sqlalchemy.exc import SQLAlchemyError

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            storage = _storage(url)
            study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
        except (SQLAlchemyError, ImportError, OSError) as error:
            raise StoreUnavailable(
                f"the study database {_without_password(url)} cannot be used: {type(error).__name__}. "
                "Set WIDELOOP_STUDY_URL to an SQLAlchemy URL of a database of its own"
            ) from error
        kept = study.user_attrs.get("space")
        if kept is None:
            study.set_user_attr("space", space.model_dump())
        else:
            space = SearchSpace.model_validate(kept)
        return cls(study, space, seed)

    @property
    def space(self) -> SearchSpace:
        return self._space

    # ---- before the first trial

    def add_measured(self, point: Point, value: float, constraints: Mapping[str, float], kind: str) -> int:
        """Add a configuration that was measured elsewhere (the baseline); once per ``kind``."""
        import optuna

        for trial in self._study.trials:
            if _kind(trial.user_attrs) == kind:
                return int(trial.number)
        self._study.add_trial(
            optuna.trial.create_trial(
                params=dict(point),
                distributions=self._space.distributions(),
                value=value,
                constraints=_complete(constraints, _RAN),
                user_attrs={_KIND: kind, _WHY: kind, _OUTCOME: "measured", _RUN: kind},
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

    # ---- asking and telling

    def ask(self, run: str) -> Asked:
        """The trial of ``run``: its earlier trial unless that failed, else a new one."""
        import optuna

        self._close_nameless()
        for trial in self._study.trials:
            if trial.user_attrs.get(_RUN) == run and trial.state != optuna.trial.TrialState.FAIL:
                point = self._space.rounded(trial.params)
                return self._asked(trial.number, point, trial.user_attrs, finished=trial.state.is_finished())
        self._study.sampler = self._sampler()
        new_trial = self._study.ask()
        point = self._space.suggest(new_trial)
        # The run is recorded last: a trial that has it is complete.
        new_trial.set_user_attr(_RUN, run)
        return self._asked(new_trial.number, point, new_trial.user_attrs, finished=False)

    def _asked(self, number: int, point: Point, attrs: Mapping[str, Any], finished: bool) -> Asked:
        return Asked(number=number, point=point, kind=_kind(attrs), why=attrs.get(_WHY, "sampler"), finished=finished)

    def _close_nameless(self) -> None:
        """Fail trials whose process ended before it recorded its run: no process would ever finish them.

        A queued point is queued again, because it was not tried.
        """
        import optuna

        for trial in self._study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            if _RUN not in trial.user_attrs:
                point = trial.system_attrs.get("fixed_params")
                if point:
                    kept = {k: v for k, v in trial.user_attrs.items() if k in (_KIND, _WHY, _RETRY)}
                    self._ask_again(trial.number, point, kept)
                self._study.tell(trial.number, state=optuna.trial.TrialState.FAIL, skip_if_finished=True)

    def _ask_again(self, number: int, point: Mapping[str, float], attrs: Mapping[str, Any]) -> None:
        """Queue the point of a trial that is about to be closed; once, however often the closing process is retried."""
        if all(t.user_attrs.get(_INSTEAD_OF) != number for t in self._study.trials):
            self._study.enqueue_trial(dict(point), user_attrs={**attrs, _INSTEAD_OF: number})

    def tell_measured(self, number: int, value: float, constraints: Mapping[str, float]) -> None:
        """Finish a trial with its objective and :data:`OBJECTIVES`. Telling a finished trial changes nothing."""
        self._tell(number, "measured", value, _complete(constraints, _RAN))

    def tell_infeasible(self, number: int, deficit_gib: float) -> None:
        """Finish a trial that ran out of memory.

        ``deficit_gib`` > 0 is the distance from feasibility, from which the sampler learns the boundary; the objective
        is set to the worst value so far. With state FAIL instead, every sampler proposed such points repeatedly.
        """
        worst = min((r.value for r in self.results() if r.outcome == "measured"), default=0.0)
        self._tell(number, "infeasible", worst, _complete({}, max(deficit_gib, 1e-3)))

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

    def _tell(self, number: int, outcome: Outcome, value: float, constraints: Mapping[str, float]) -> None:
        import optuna

        frozen = self._study.trials[number]
        if frozen.state.is_finished():
            return
        trial = optuna.trial.Trial(self._study, frozen._trial_id)
        for name, violation in constraints.items():
            trial.set_constraint(name, violation)
        trial.set_user_attr(_OUTCOME, outcome)
        self._study.tell(number, value)

    # ---- reading

    def results(self) -> list[Result]:
        """Finished trials with a result, by number."""
        return [
            Result(
                number=t.number,
                point=self._space.rounded(t.params),
                outcome=t.user_attrs[_OUTCOME],
                value=t.value,
                constraints=dict(t.constraints),
            )
            for t in self._study.trials
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
        """The feasible result with the largest value, None when no point met every constraint."""
        feasible = [r for r in self.results() if r.feasible]
        return max(feasible, key=lambda r: r.value, default=None)

    def _sampler(self) -> optuna.samplers.BaseSampler:
        """GPSampler, which found the optimum of such spaces in half the trials TPE needs; else TPE.

        Seeded by study and trial: a sampler that every process seeds alike proposes the same point.
        """
        import optuna

        trials = self._study.trials
        digest = hashlib.sha256(f"{self._study.study_name}/{self._seed}/{len(trials)}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big")
        startup = 4
        if _importable("torch") and _importable("scipy"):
            return optuna.samplers.GPSampler(seed=seed, n_startup_trials=startup, deterministic_objective=False)
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup, multivariate=True, constant_liar=True)


def _kind(attrs: Mapping[str, Any]) -> str:
    """The kind of a seed, also of studies that stored its sentence alone; ``sampler`` for all other trials."""
    why = str(attrs.get(_WHY, "sampler"))
    return str(attrs.get(_KIND) or _KIND_OF_SENTENCE.get(why, why))


def _complete(objectives: Mapping[str, float], out_of_memory: float) -> dict[str, float]:
    return {OUT_OF_MEMORY: out_of_memory} | {name: objectives.get(name, _UNKNOWN) for name in OBJECTIVES}


def _importable(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None


def _storage(url: str) -> optuna.storages.RDBStorage:
    """Optuna's storage. Processes that create its tables at the same time may be refused; a retry finds the tables."""
    import optuna
    from sqlalchemy.exc import DatabaseError

    for left in reversed(range(_TRIES)):
        try:
            return optuna.storages.RDBStorage(url, engine_kwargs=_engine_options(url))
        except DatabaseError as error:
            if not left or not any(sign in str(error) for sign in _MADE_BY_ANOTHER):
                raise
    raise AssertionError("unreachable")


def _engine_options(url: str) -> dict[str, Any]:
    return {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}


def _without_password(url: str) -> str:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return "(no SQLAlchemy URL)"
