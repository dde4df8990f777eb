"""One trial: what is asked, and what telling does to the study, the store and the run."""

from __future__ import annotations

from pathlib import Path

import pytest
from wideloop.manifests.diagnosis import Diagnosis
from wideloop.manifests.errors import DeploymentFailed
from wideloop.operators.request import Request
from wideloop.operators.steps import trial
from wideloop.operators.steps.benchmark import Measured
from wideloop.operators.steps.deployment import Outcome
from wideloop.operators.steps.run import open_store
from wideloop.operators.steps.sweep import prepare_study
from wideloop.results.records import Gate, Trial
from wideloop.tuning.space import Placements, decoder, point_of

from tests.unit.operators.steps.measured import (
    CYCLE,
    PARAMS,
    READY,
    baseline,
    gate,
    measured,
    out_of_memory,
    study,
    trial_run,
    tried,
)

RUN = trial_run("cycle__trial_000")
INFEASIBLE = Outcome(state="infeasible", diagnosis=out_of_memory())


def stored(number: int) -> Trial:
    with open_store() as store:
        return next(t for t in store.trials(study=CYCLE.cycle_id) if t.number == number)


def test_asking_shows_the_trial_as_running_and_again_gives_the_same(cycle: Path) -> None:
    asked = trial.ask(PARAMS, RUN)
    assert stored(asked.number).state == "running"
    before = stored(asked.number)
    assert trial.ask(PARAMS, RUN) == asked
    assert stored(asked.number) == before
    assert trial.ask(PARAMS, trial_run("another")).deployment != asked.deployment


def test_a_measured_trial_is_told_with_its_value_per_gpu_and_its_violations(cycle: Path) -> None:
    asked = trial.ask(PARAMS, RUN)
    record = trial.tell(PARAMS, asked, RUN, READY, measured(800.0, ttft_ms_p99=10_000_000))
    (result,) = study().results()
    assert (result.outcome, result.value, result.feasible) == ("measured", 100.0, False)
    assert record is not None and record == stored(asked.number)
    assert (record.state, record.value) == ("complete", 100.0)
    assert record.constraints["ttft_p99"] > 0 >= record.constraints["tpot_p99"]
    assert record.phases["client"] == 12.0 and record.gpu_seconds >= 0 and record.ended_at is not None


def test_telling_again_changes_nothing(cycle: Path) -> None:
    asked = trial.ask(PARAMS, RUN)
    for tok_s in (800.0, 800.0, 4000.0):
        trial.tell(PARAMS, asked, RUN, READY, measured(tok_s))
    assert [r.value for r in study().results()] == [100.0]
    assert trial.ask(PARAMS, RUN).finished


@pytest.mark.parametrize("when", ["at the start", "under load"])
def test_running_out_of_memory_is_knowledge_and_no_failure(cycle: Path, when: str) -> None:
    asked = trial.ask(PARAMS, RUN)
    if when == "at the start":
        record = trial.tell(PARAMS, asked, RUN, INFEASIBLE, Measured(outcome="infeasible", diagnosis=out_of_memory()))
    else:
        record = trial.tell(PARAMS, asked, RUN, READY, Measured(outcome="infeasible", diagnosis=out_of_memory()))
    assert record is not None and (record.state, record.value) == ("infeasible", None)
    assert record.constraints == {"oom_gib": 2.5} and "no room" in record.reason
    (result,) = study().results()
    assert result.outcome == "infeasible" and result.constraints["oom_gib"] == 2.5 and study().best() is None


def test_a_limit_of_the_engine_is_infeasible_without_being_told_as_missing_memory(cycle: Path) -> None:
    asked = trial.ask(PARAMS, RUN)
    limit = Diagnosis(
        kind="bad_configuration", component="decode-0", message="more tokens", action="lower", infeasible=True
    )
    record = trial.tell(PARAMS, asked, RUN, Outcome(state="infeasible", diagnosis=limit), None)
    assert record is not None and record.state == "infeasible" and "oom_gib" not in record.constraints
    (result,) = study().results()
    assert result.outcome == "refused" and result.constraints["oom_gib"] <= 0.001


def test_a_lost_trial_shows_the_cause_that_an_earlier_task_found(cycle: Path) -> None:
    asked = trial.ask(PARAMS, RUN)
    lost = Diagnosis(kind="node_lost", component="decode-0", message="an ECC fault", action="Cordon", log_tail=("x",))
    trial.note_failure(RUN, DeploymentFailed("trial-1", lost))
    trial.note_failure(trial_run("another"), DeploymentFailed("trial-2", lost.changed(message="elsewhere")))
    with pytest.raises(trial.TrialFailed, match="an ECC fault"):
        trial.tell(PARAMS, asked, RUN, None, None)
    assert stored(asked.number).reason == "[node_lost] decode-0: an ECC fault -> Cordon"


def test_an_infeasible_deployment_whose_benchmark_did_not_run_is_infeasible(cycle: Path) -> None:
    asked = trial.ask(PARAMS, RUN)
    record = trial.tell(PARAMS, asked, RUN, INFEASIBLE, None)
    assert record is not None and record.state == "infeasible"


def test_a_deficit_the_log_does_not_state_still_violates(cycle: Path) -> None:
    asked = trial.ask(PARAMS, RUN)
    trial.tell(PARAMS, asked, RUN, Outcome(state="infeasible", diagnosis=out_of_memory(None)), None)
    assert study().results()[0].constraints["oom_gib"] > 0


@pytest.mark.parametrize("what", ["nothing", "not to be believed"])
def test_when_nothing_was_learned_the_run_fails_and_the_point_is_asked_again(cycle: Path, what: str) -> None:
    asked = trial.ask(PARAMS, RUN)
    result = measured(9000.0, gates=(gate(False),)) if what == "not to be believed" else None
    with pytest.raises(trial.TrialFailed, match="client kept up" if result else "killed, or marked by hand"):
        trial.tell(PARAMS, asked, RUN, READY if result else None, result)
    assert stored(asked.number).state == "failed" and stored(asked.number).value is None
    assert study().results() == []
    again = trial.ask(PARAMS, trial_run("a spare"))
    assert again.number != asked.number and again.point == asked.point


def test_a_default_that_failed_is_asked_again_as_the_default(cycle: Path) -> None:
    prepare_study(PARAMS, CYCLE)
    asked = trial.ask(PARAMS, RUN)
    assert asked.is_default
    with pytest.raises(trial.TrialFailed):
        trial.tell(PARAMS, asked, RUN, None, None)
    whys = [trial.ask(PARAMS, trial_run(f"spare {k}")).why for k in range(3)]
    assert trial.DEFAULT in whys


def test_the_default_is_deployed_as_the_form_has_it(cycle: Path) -> None:
    request = Request.from_params(PARAMS)
    asked = trial.AskedTrial(number=0, point=point_of(request.spec("x")), why=trial.DEFAULT, deployment="trial-0")
    placed = Placements(files={"decode-0": "d.json", "prefill-0": "p.json"})
    assert trial.spec_of(asked, request, placed, "i", "m") == request.spec("trial-0", "i", "m")
    other = asked.model_copy(update={"why": "sampler"})
    assert decoder(trial.spec_of(other, request, placed, "i", "m")).knobs.expert_placement == "d.json"


def test_a_trial_is_measured_at_the_highest_level_and_a_repeat_at_all(cycle: Path) -> None:
    baseline()
    prepare_study(PARAMS, CYCLE)
    asked = tried("one", 900.0)
    assert trial.subject(PARAMS, asked, trial_run("one")).workload.concurrency == (32,)
    again = trial.ask({**PARAMS, "repeat_of": asked.number, "repeat": 1}, trial_run("repeat"))
    assert (again.number, again.point, again.repeat) == (asked.number, asked.point, 1)
    subject = trial.subject(PARAMS, again, trial_run("repeat"))
    assert (subject.purpose, subject.workload.concurrency, subject.repeat) == ("repeat", (8, 32), 1)
    default = trial.ask({**PARAMS, "repeat_of": 0, "repeat": 0}, trial_run("other"))
    assert default.label == "default" and default.is_default


def test_a_repeat_asks_the_study_for_nothing_and_tells_it_nothing(cycle: Path) -> None:
    asked = tried("one", 900.0)
    before = len(study()._study.trials)
    again = trial.ask({**PARAMS, "repeat_of": asked.number, "repeat": 0}, trial_run("repeat"))
    assert trial.tell(PARAMS, again, trial_run("repeat"), READY, measured(1.0)) is None
    assert len(study()._study.trials) == before and [r.value for r in study().results()] == [112.5]


@pytest.mark.parametrize(
    "found",
    [None, Measured(outcome="infeasible", diagnosis=out_of_memory()), measured(gates=(gate(False),))],
    ids=["nothing", "infeasible", "not to be believed"],
)
def test_a_repeat_that_says_nothing_fails_its_run_so_that_another_pair_comes(
    cycle: Path, found: Measured | None
) -> None:
    asked = tried("one", 900.0)
    again = trial.ask({**PARAMS, "repeat_of": asked.number, "repeat": 0}, trial_run("repeat"))
    with pytest.raises(trial.TrialFailed, match="repeat 0"):
        trial.tell(PARAMS, again, trial_run("repeat"), READY, found)


def test_requests_that_the_engine_fails_are_an_objective_missed_and_not_a_broken_measurement(cycle: Path) -> None:
    baseline()
    prepare_study(PARAMS, CYCLE)
    asked = trial.ask(PARAMS, trial_run("one"))
    failing = measured(900.0, errors=4, gates=(Gate(name="errors", value=0.04, limit=0.01, ok=False, meaning="x"),))
    told = trial.tell(PARAMS, asked, trial_run("one"), READY, failing)
    assert told is not None and told.state == "complete" and told.constraints["error_rate"] > 0
    assert not study().result(asked.number).feasible
