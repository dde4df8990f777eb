"""Which runs a sweep needs, computed anew each time it is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from wideloop.manifests.errors import WideloopError
from wideloop.operators.request import Request
from wideloop.operators.steps import sweep, trial
from wideloop.operators.steps.finalists import SweepFailed
from wideloop.operators.steps.plan import plan
from wideloop.operators.steps.run import Run, open_store
from wideloop.tuning.space import knobs_shown, point_of

from tests.unit.operators.steps.measured import (
    CYCLE,
    PARAMS,
    READY,
    baseline,
    measured,
    repeated,
    study,
    trial_run,
    tried,
)


def run_ids(runs: list[sweep.TrialRun]) -> list[str]:
    return [r.run_id for r in runs]


def test_the_measured_baseline_is_the_default_trial_and_is_not_measured_again(cycle: Path) -> None:
    baseline(800.0)
    for _ in range(2):  # the controller prepares again each time it starts
        sweep.prepare_study(PARAMS, CYCLE)
    (result,) = study().results()
    assert (result.value, study().why(result.number)) == (100.0, trial.DEFAULT)  # the highest level, per GPU
    with open_store() as store:
        (kept,) = store.trials(study=CYCLE.cycle_id)
    assert kept.is_default and kept.state == "complete" and kept.value == 100.0
    assert kept.gpu_seconds == 80.0
    assert len(sweep.trial_runs(PARAMS, CYCLE, 0)) == PARAMS["trials"] - 1


def test_a_baseline_that_missed_the_slo_is_kept_with_its_violation(cycle: Path) -> None:
    baseline(800.0, ttft_ms_p99=10_000_000)
    sweep.prepare_study(PARAMS, CYCLE)
    assert not study().results()[0].feasible


def test_without_a_baseline_the_default_is_the_first_trial(cycle: Path) -> None:
    sweep.prepare_study(PARAMS, CYCLE)
    asked = trial.ask(PARAMS, trial_run("first"))
    assert asked.why == trial.DEFAULT
    assert asked.point == point_of(Request.from_params(PARAMS).spec("x"))
    assert len(sweep.trial_runs(PARAMS, CYCLE, 0)) == PARAMS["trials"]


def test_seeds_come_before_the_samplers_own_points(cycle: Path) -> None:
    baseline()
    sweep.prepare_study(PARAMS, CYCLE)
    whys = [trial.ask(PARAMS, trial_run(f"{k}")).why for k in range(4)]
    assert whys[0] != "sampler" and whys[-1] == "sampler"


def test_chunks_that_were_asked_for_are_tried_and_shown(cycle: Path) -> None:
    params = {**PARAMS, "prefill_chunks": [16384]}
    own = Run(dag_id="wideep_cycle", run_id="with chunks")
    plan(params, own, sweeps=True)
    sweep.prepare_study(params, own)
    runs = [Run(dag_id="wideep_trial", run_id=f"{k}", for_cycle=own.cycle_id) for k in range(4)]
    asked = [trial.ask(params, run) for run in runs]
    chunks = [a.point["chunked_prefill_size"] for a in asked]
    assert asked[0].is_default and {*chunks} == {chunks[0], 16384}
    spec = trial.spec_for(params, asked[chunks.index(16384)], runs[0], "i", "m")
    assert knobs_shown(spec)["prefill"]["chunked_prefill_size"] == 16384
    assert "chunked_prefill_size" not in knobs_shown(spec)["decode"]


def test_run_ids_are_the_same_whoever_computes_them(cycle: Path) -> None:
    ids = run_ids(sweep.trial_runs(PARAMS, CYCLE, 0))
    assert ids == run_ids(sweep.trial_runs(PARAMS, CYCLE, 0))
    assert len(set(ids)) == len(ids) and all(CYCLE.cycle_id in i for i in ids)


def test_failed_runs_bring_others_up_to_a_limit(cycle: Path) -> None:
    planned = run_ids(sweep.trial_runs(PARAMS, CYCLE, 0))
    assert run_ids(sweep.trial_runs(PARAMS, CYCLE, 2))[: len(planned)] == planned
    counts = [len(sweep.trial_runs(PARAMS, CYCLE, failed)) for failed in range(8)]
    assert counts == [4, 5, 6, 7, 8, 8, 8, 8]


def test_repeats_alternate_so_that_drift_cancels(cycle: Path) -> None:
    baseline(800.0)
    sweep.prepare_study(PARAMS, CYCLE)
    best = tried("one", 1000.0)
    runs = sweep.repeat_runs({**PARAMS, "repeats": 3}, CYCLE, 0)
    order = [(r.extra["repeat"], r.extra["repeat_of"]) for r in runs]
    assert order == [(0, 0), (0, best.number), (1, best.number), (1, 0), (2, 0), (2, best.number)]
    assert len(set(run_ids(runs))) == 6
    assert run_ids(sweep.repeat_runs({**PARAMS, "repeats": 3}, CYCLE, 1))[:6] == run_ids(runs)
    assert len(sweep.repeat_runs({**PARAMS, "repeats": 3}, CYCLE, 1)) == 8  # a broken pair brings a whole one


def test_best_and_default_are_confirmed_before_further_seeds(cycle: Path) -> None:
    baseline(800.0)
    sweep.prepare_study(PARAMS, CYCLE)
    tried("one", 900.0)
    best = tried("two", 1000.0).number
    also = [seed_kind for seed_kind in ("placement", "slots", "redundancy") if study().number_of(seed_kind) is not None]
    order = [r.extra["repeat_of"] for r in sweep.repeat_runs({**PARAMS, "repeats": 3}, CYCLE, 0, also=also)]
    assert set(order[:6]) == {0, best}
    assert set(order[6:]).isdisjoint({0, best})


def due(repeats: int = 8) -> list[tuple[int, int]]:
    """The repeats that are wanted now, of those that were not measured."""
    params = {**PARAMS, "repeats": repeats}
    with open_store() as store:
        measured = {(m.repeat, m.trial_number) for m in store.measurements(cycle_id=CYCLE.cycle_id, purpose="repeat")}
    runs = sweep.repeat_runs(params, CYCLE, 0)
    waiting = [r for r in runs if (r.extra["repeat"], r.extra["repeat_of"]) not in measured]
    return [(r.extra["repeat"], r.extra["repeat_of"]) for r in sweep.due_repeats(params, CYCLE, waiting)]


def test_pairs_are_measured_until_the_gain_is_decided(cycle: Path) -> None:
    baseline(800.0)
    sweep.prepare_study(PARAMS, CYCLE)
    best = tried("one", 1000.0).number
    assert [repeat for repeat, _ in due()] == [0, 0, 1, 1, 2, 2]  # As many as one look needs.
    for repeat, (ours, theirs) in enumerate([(900.0, 800.0), (760.0, 790.0), (880.0, 810.0)]):
        repeated(best, repeat, ours)
        repeated(0, repeat, theirs)
    assert due() == [(3, best), (3, 0)]  # One pair at a time afterwards.
    assert due(repeats=3) == []
    repeated(0, 3, 800.0)
    assert due() == [(3, best)]
    for repeat in range(4):
        repeated(best, repeat, 1000.0 + repeat)
    assert due() == []


def test_a_best_that_misses_the_slo_in_a_repeat_is_not_measured_further(cycle: Path) -> None:
    baseline(800.0)
    sweep.prepare_study(PARAMS, CYCLE)
    best = tried("one", 1000.0).number
    repeated(0, 0, 800.0)
    repeated(best, 0, 1000.0, ttft_ms_p99=10_000_000)
    assert due() == []


def test_no_repeats_are_none(cycle: Path) -> None:
    baseline(800.0)
    sweep.prepare_study(PARAMS, CYCLE)
    tried("one", 1000.0)
    assert sweep.repeat_runs({**PARAMS, "repeats": 0}, CYCLE, 0) == []


def test_when_the_default_is_best_there_is_nothing_to_compare(cycle: Path) -> None:
    baseline(800.0)
    sweep.prepare_study(PARAMS, CYCLE)
    tried("one", 700.0)
    assert sweep.repeat_runs(PARAMS, CYCLE, 0) == []


def test_when_nothing_met_the_objectives_nothing_is_repeated(cycle: Path) -> None:
    baseline(800.0, ttft_ms_p99=10_000_000)
    sweep.prepare_study(PARAMS, CYCLE)
    tried("one", 1000.0, ttft_ms_p99=10_000_000)
    assert sweep.repeat_runs(PARAMS, CYCLE, 0) == [] and due() == []


def test_when_the_best_fails_its_repeats_pairs_of_the_second_are_wanted(cycle: Path) -> None:
    baseline(800.0)
    sweep.prepare_study(PARAMS, CYCLE)
    best, second = tried("one", 1000.0).number, tried("two", 950.0).number
    repeated(best, 0, 1000.0, ttft_ms_p99=10_000_000)
    runs = sweep.repeat_runs(PARAMS, CYCLE, 0)
    wanted = sweep.due_repeats(PARAMS, CYCLE, [r for r in runs if r.extra["repeat"] > 0])
    assert {r.extra["repeat_of"] for r in wanted} == {0, second}
    assert min(r.extra["repeat"] for r in wanted) == 100
    assert len(set(run_ids(runs))) == len(runs)


@pytest.mark.parametrize(
    ("limits", "ends"),
    [
        ({}, False),
        ({"max_gpu_hours": 1e6, "max_hours": 1e6, "least_gain": 0.001}, False),
        ({"max_gpu_hours": 1e-6}, True),
        ({"max_hours": 1e-9}, True),
    ],
)
def test_a_sweep_ends_when_its_budget_is_spent(cycle: Path, limits: dict[str, float], ends: bool) -> None:
    params = {**PARAMS, **limits}
    baseline(800.0)
    sweep.prepare_study(params, CYCLE)
    tried("one", 1000.0)
    waiting = sweep.trial_runs(params, CYCLE, 0)[1:]
    assert (sweep.due_trials(params, CYCLE, waiting) == []) == ends


def test_a_sweep_ends_when_nothing_is_left_to_gain(cycle: Path) -> None:
    baseline(800.0)
    sweep.prepare_study(PARAMS, CYCLE)
    for k in range(14):
        tried(f"{k}", 800.0)
    waiting = [sweep.TrialRun(run_id="next", extra={})]
    assert sweep.due_trials({**PARAMS, "least_gain": 0.2}, CYCLE, waiting) == []
    assert sweep.due_trials({**PARAMS, "least_gain": 1e-9}, CYCLE, waiting) == waiting


def test_when_the_default_was_never_measured_the_sweep_says_so(cycle: Path) -> None:
    tried("one", 1000.0)
    with pytest.raises(WideloopError, match="default configuration was never measured"):
        sweep.repeat_runs(PARAMS, CYCLE, 0)


def test_progress_counts_what_says_something_and_says_simulated(cycle: Path) -> None:
    assert sweep.progress(PARAMS, CYCLE) == "SIMULATED trials 0/4, none feasible yet"
    asked = tried("one", 1000.0)
    with pytest.raises(trial.TrialFailed):
        trial.tell(PARAMS, trial.ask(PARAMS, trial_run("two")), trial_run("two"), None, None)
    trial.tell(PARAMS, trial.ask(PARAMS, trial_run("three")), trial_run("three"), READY, measured(900.0))
    said = sweep.progress(PARAMS, CYCLE)
    assert said == f"SIMULATED trials 2/4, best so far: trial {asked.number} with 125.0 tok/s per GPU"


def test_the_trial_of_a_run_that_ended_without_a_word_is_closed_and_its_point_asked_again(cycle: Path) -> None:
    baseline()
    sweep.prepare_study(PARAMS, CYCLE)
    lost = trial.ask(PARAMS, trial_run("lost"))
    going_on = trial.ask(PARAMS, trial_run("going on"))
    for _ in range(2):  # the controller settles each time it wakes
        sweep.settle(PARAMS, CYCLE, [trial_run("lost").run_id])
    with open_store() as store:
        states = {t.number: t.state for t in store.trials(study=CYCLE.cycle_id)}
    assert (states[lost.number], states[going_on.number]) == ("failed", "running")
    again = [trial.ask(PARAMS, trial_run(f"again {k}")) for k in range(3)]
    assert [a.why for a in again].count(lost.why) == 1


def test_a_default_outside_the_space_of_an_earlier_study_is_refused_in_words(cycle: Path) -> None:
    sweep.prepare_study(PARAMS, CYCLE)
    with pytest.raises(SweepFailed, match="start a new study"):
        sweep.prepare_study({**PARAMS, "mem_fraction_static": 0.5}, CYCLE)
