"""A study that several processes use, some of which die: no trial is lost and none is counted twice."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path

import numpy as np
import optuna
import pytest
from wideloop.manifests.errors import StoreUnavailable
from wideloop.tuning.sampler.cube import Cube
from wideloop.tuning.space import Point, SearchSpace
from wideloop.tuning.study import MAX_RETRIES, OUT_OF_MEMORY, TuningStudy

from tests.unit.tuning.test_space import searching

SPACE = SearchSpace()
DEFAULT: Point = {"redundant_slots": 0, "mem_fraction_static": 0.8, "cuda_graph_max_bs": 16}
SEED: Point = {"redundant_slots": 1, "mem_fraction_static": 0.85, "cuda_graph_max_bs": 8}
CHUNK = "chunked_prefill_size"
MET = {"ttft_p99": -0.5}


def opened(url: str, name: str = "cycle-1", seed: int = 1) -> TuningStudy:
    return TuningStudy.open(url, name, SPACE, seed)


def raw(url: str, name: str = "cycle-1") -> optuna.Study:
    """The same study as Optuna sees it."""
    return optuna.load_study(study_name=name, storage=url)


def measured(study: TuningStudy, run: str, value: float, constraints: dict[str, float] | None = None) -> int:
    number = study.ask(run).number
    study.tell_measured(number, value, MET if constraints is None else constraints)
    return number


def test_a_whole_sweep_on_each_database(study_url: str) -> None:
    study = opened(study_url)
    study.add_measured(DEFAULT, 100.0, MET, "default")
    study.enqueue(SEED, "seed")
    first = study.ask("run-0")
    assert (first.point, first.why) == (SEED, "seed")
    study.tell_measured(first.number, 120.0, MET)
    study.tell_infeasible(opened(study_url).ask("run-1").number, 2.5)
    study.tell_failed(opened(study_url).ask("run-2").number)
    measured(opened(study_url), "run-3", 130.0, {"ttft_p99": 0.2})
    again = opened(study_url)
    assert [(r.outcome, r.value, r.feasible) for r in again.results()] == [
        ("measured", 100.0, True),
        ("measured", 120.0, True),
        ("infeasible", 100.0, False),
        ("measured", 130.0, False),
    ]
    best = again.best()
    assert best is not None and best.number == first.number


# ---- asking


def test_asking_again_for_the_same_run_gives_the_same_trial(url: str) -> None:
    first = opened(url).ask("run-0")
    assert opened(url).ask("run-0") == first
    assert len(raw(url).trials) == 1


def test_two_runs_get_two_trials_at_two_points(url: str) -> None:
    a, b = opened(url).ask("run-0"), opened(url).ask("run-1")
    assert a.number != b.number
    assert a.point != b.point


def test_a_run_whose_trial_was_told_gets_it_back_as_finished(url: str) -> None:
    study = opened(url)
    asked = study.ask("run-0")
    study.tell_measured(asked.number, 1.0, MET)
    assert study.ask("run-0") == asked.model_copy(update={"finished": True})


def test_a_run_whose_trial_failed_gets_another_when_it_is_run_again(url: str) -> None:
    study = opened(url)
    first = study.ask("run-0")
    study.tell_failed(first.number)
    second = study.ask("run-0")
    assert second.number != first.number and not second.finished
    assert second.point == first.point


def test_every_point_lies_in_the_space_with_three_digits_of_memory(url: str) -> None:
    study = opened(url)
    for k in range(6):  # beyond the sampler's random start-up, with trials of every outcome
        asked = study.ask(f"run-{k}")
        assert SPACE.contains(asked.point)
        assert asked.point["mem_fraction_static"] == round(asked.point["mem_fraction_static"], 3)
        if k == 1:
            study.tell_infeasible(asked.number, 1.5)
        elif k == 2:
            study.tell_failed(asked.number)
        else:
            study.tell_measured(asked.number, 100 + asked.point["redundant_slots"], MET)


def test_two_processes_that_ask_at_the_same_moment_get_points_apart(study_url: str) -> None:
    study = opened(study_url)
    for k in range(6):
        measured(study, f"run-{k}", 100.0 + k)
    together = threading.Barrier(3)

    def ask(k: int) -> Point:
        own = opened(study_url)
        together.wait()
        return own.ask(f"at once {k}").point

    with ThreadPoolExecutor(together.parties) as pool:
        points = list(pool.map(ask, range(together.parties)))
    rows = Cube(SPACE).rows(points)
    apart = [np.abs(a - b).max() for a, b in combinations(rows, 2)]
    assert min(apart) >= 0.1
    states = [t.state.name for t in raw(study_url).trials[6:]]
    assert states.count("RUNNING") == 3 and set(states) <= {"RUNNING", "FAIL"}


def test_several_asks_of_one_process_are_a_batch_of_different_points(url: str) -> None:
    study = opened(url)
    for k in range(8):
        measured(study, f"run-{k}", 100.0 + k)
    points = [study.ask(f"open {k}").point for k in range(4)]
    assert len({tuple(p.values()) for p in points}) == 4


def test_the_same_study_asks_for_the_same_points_in_every_process(url: str, tmp_path: Path) -> None:
    other = f"sqlite:///{tmp_path / 'other.db'}"
    for _ in range(7):
        points = []
        for each in (url, other):
            study = opened(each)
            asked = study.ask(f"run-{len(raw(each).trials)}")
            study.tell_measured(asked.number, 100 * asked.point["mem_fraction_static"], MET)
            points.append(asked.point)
        assert points[0] == points[1]


# ---- the asker dies


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wideloop.tuning.study._NAMELESS_S", 0.2)


def test_a_trial_whose_asker_died_before_it_left_its_name_is_closed(url: str) -> None:
    opened(url)
    raw(url).ask()
    asked = opened(url).ask("run-0")
    states = [t.state.name for t in raw(url).trials]
    assert states == ["FAIL", "RUNNING"] and asked.number == 1


def test_the_running_trials_of_others_are_left_alone(url: str) -> None:
    first = opened(url).ask("run-0")
    opened(url).ask("run-1")
    assert raw(url).trials[first.number].state == optuna.trial.TrialState.RUNNING


@pytest.mark.parametrize("suggested", [0, 1, 3], ids=["before its point", "within its point", "before its name"])
def test_a_seed_whose_asker_died_is_asked_again_for_the_same_reason(url: str, suggested: int) -> None:
    opened(url).enqueue(SEED, "default")
    half = raw(url).ask()
    for name, distribution in list(SPACE.distributions().items())[:suggested]:
        half._suggest(name, distribution)
    for _ in range(2):  # and a retry of the retry
        asked = opened(url).ask("run-0")
        assert (asked.point, asked.why, asked.finished) == (SEED, "default", False)
    assert [t.state.name for t in raw(url).trials] == ["FAIL", "RUNNING"]


def test_the_study_goes_on_in_another_process(url: str) -> None:
    script = (
        "import sys, json\n"
        "from wideloop.tuning.study import TuningStudy\n"
        "from wideloop.tuning.space import SearchSpace\n"
        "asked = TuningStudy.open(sys.argv[1], 'cycle-1', SearchSpace(), 1).ask('run-0')\n"
        "print(json.dumps([asked.number, asked.point]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, url], capture_output=True, text=True, check=True)
    asked = opened(url).ask("run-0")
    assert json.loads(done.stdout.splitlines()[-1]) == [asked.number, asked.point]


def test_the_space_is_the_one_the_study_began_with(url: str) -> None:
    opened(url)
    narrow = searching(cuda_graph_max_bs=(2, 3))
    assert TuningStudy.open(url, "cycle-1", narrow, 1).space == SPACE


# ---- telling


def test_telling_twice_counts_once_and_the_first_word_stands(url: str) -> None:
    study = opened(url)
    number = study.ask("run-0").number
    study.tell_measured(number, 100.0, MET)
    study.tell_measured(number, 1.0, MET)
    study.tell_infeasible(number, 9.0)
    study.tell_failed(number)
    (result,) = study.results()
    assert (result.value, result.outcome, result.constraints["ttft_p99"]) == (100.0, "measured", -0.5)
    assert len(raw(url).trials) == 1


def test_an_infeasible_trial_is_a_violated_constraint_at_the_worst_value(url: str) -> None:
    study = opened(url)
    measured(study, "run-0", 80.0)
    measured(study, "run-1", 120.0)
    study.tell_infeasible(study.ask("run-2").number, 0.0)
    result = study.result(2)
    assert result.value == 80.0
    assert result.constraints[OUT_OF_MEMORY] > 0 and not result.feasible
    assert raw(url).trials[2].state == optuna.trial.TrialState.COMPLETE
    assert raw(url).trials[2].constraints == result.constraints


def test_a_trial_that_never_served_has_no_value_of_any_objective(url: str) -> None:
    study = opened(url)
    study.tell_infeasible(study.ask("run-0").number, 1.0)
    measured(study, "run-1", 90.0, {"tpot_p99": 0.1})
    assert [set(r.constraints) for r in study.results()] == [{OUT_OF_MEMORY}, {OUT_OF_MEMORY, "tpot_p99"}]


def test_memory_that_was_left_or_missing_is_kept_where_it_is_known(url: str) -> None:
    study = opened(url)
    study.tell_infeasible(study.ask("run-0").number, 2.5)
    study.tell_infeasible(study.ask("run-1").number)
    study.tell_measured(study.ask("run-2").number, 1.0, MET, memory_gib=3.5)
    assert [r.memory_gib for r in study.results()] == [2.5, None, 3.5]


def test_a_refused_configuration_is_infeasible_and_says_nothing_about_memory(url: str) -> None:
    study = opened(url)
    study.tell_refused(study.ask("run-0").number)
    (result,) = study.results()
    assert result.outcome == "refused" and not result.feasible
    assert [t.state for t in study._past(raw(url).trials)] == ["refused"]


def test_the_first_of_all_may_be_infeasible(url: str) -> None:
    study = opened(url)
    study.tell_infeasible(study.ask("run-0").number, 1.0)
    assert study.best() is None
    study.ask("run-1")


def test_a_failed_trial_is_asked_again_but_not_for_ever(url: str) -> None:
    study = opened(url)
    point = study.ask("run-0").point
    tried = 1
    study.tell_failed(0)
    while raw(url).get_trials(states=(optuna.trial.TrialState.WAITING,)):
        asked = study.ask(f"run-{tried}")
        assert asked.point == point
        assert asked.why == "again after trial 0 failed"
        tried += 1
        study.tell_failed(asked.number)
    assert tried == 1 + MAX_RETRIES
    assert study.results() == []


def test_a_default_that_failed_is_still_the_default_when_asked_again(url: str) -> None:
    study = opened(url)
    study.enqueue(DEFAULT, "default")
    study.tell_failed(study.ask("run-0").number)
    study.enqueue(DEFAULT, "default")  # the controller prepares the study again when it wakes
    asked = study.ask("run-1")
    assert (asked.point, asked.why) == (DEFAULT, "default")
    assert study.number_of("default") is None
    study.tell_measured(asked.number, 50.0, MET)
    assert study.number_of("default") == asked.number
    assert len(raw(url).trials) == 2


def test_a_teller_that_dies_while_it_fails_a_trial_loses_no_point(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    study = opened(url)
    point = study.ask("run-0").point

    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "tell", killed)
        with pytest.raises(Killed):
            study.tell_failed(0)
    opened(url).tell_failed(0)
    waiting = raw(url).get_trials(states=(optuna.trial.TrialState.WAITING,))
    assert [pytest.approx(t.system_attrs["fixed_params"], abs=5e-4) for t in waiting] == [point]


# ---- points from elsewhere


def test_what_was_measured_before_is_added_once(url: str) -> None:
    first = opened(url).add_measured(DEFAULT, 100.0, MET, "default")
    assert opened(url).add_measured(DEFAULT, 100.0, MET, "default") == first
    study = opened(url)
    assert study.number_of("default") == first == 0
    assert [r.value for r in study.results()] == [100.0]
    assert study.why(first) == "default"


def test_an_enqueued_point_is_asked_before_the_samplers_own_and_once(url: str) -> None:
    for _ in range(2):
        opened(url).enqueue(DEFAULT, "default")
        opened(url).enqueue(SEED, "seed")
    whys = [opened(url).ask(f"run-{k}").why for k in range(3)]
    assert whys == ["default", "seed", "sampler"]


def test_a_point_outside_the_space_is_refused(url: str) -> None:
    study = opened(url)
    with pytest.raises(ValueError, match="outside"):
        study.enqueue({**SEED, "mem_fraction_static": 0.99}, "too much")
    assert raw(url).trials == []


# ---- reading


def test_the_best_is_the_largest_that_could_run_and_met_every_constraint(url: str) -> None:
    study = opened(url)
    measured(study, "run-0", 100.0, {"ttft_p99": 0.0, "tpot_p99": -1.0})
    measured(study, "run-1", 200.0, {"ttft_p99": -1.0, "tpot_p99": 0.01})
    measured(study, "run-2", 90.0, {"ttft_p99": -1.0, "tpot_p99": -1.0})
    study.tell_infeasible(study.ask("run-3").number, 1.0)
    study.ask("run-4")
    best = study.best()
    assert best is not None and (best.number, best.value) == (0, 100.0)


def test_a_number_that_was_not_finished_has_no_result(url: str) -> None:
    study = opened(url)
    study.ask("run-0")
    with pytest.raises(LookupError, match="no finished trial 0"):
        study.result(0)


@pytest.mark.parametrize(
    "bad", ["sqlite:////proc/no/such/place.db", "postgresql+psycopg://me:secret-word@127.0.0.1:1/studies", "nonsense"]
)
def test_a_database_that_cannot_be_used_is_said_without_its_password(bad: str) -> None:
    with pytest.raises(StoreUnavailable) as unavailable:
        opened(bad)
    message = str(unavailable.value)
    assert "WIDELOOP_STUDY_URL" in message
    assert "secret-word" not in message


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"]
)
def test_a_database_in_memory_is_refused(url: str) -> None:
    with pytest.raises(StoreUnavailable, match="in memory"):
        opened(url)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_a_refused_connection_is_told_in_the_servers_words(scheme: str) -> None:
    with pytest.raises(StoreUnavailable, match="refused"):
        opened(f"{scheme}://me:secret-word@127.0.0.1:1/studies")


@pytest.mark.parametrize(
    ("tables", "owner"),
    [(("dag_run", "task_instance"), "Airflow"), (("experiments", "runs"), "MLflow"), ((), "another")],
)
def test_another_programs_database_is_refused_and_left_as_it_was(
    tmp_path: Path, tables: tuple[str, ...], owner: str
) -> None:
    file = tmp_path / "theirs.db"
    with sqlite3.connect(file) as theirs:
        for table in ("alembic_version", *tables):
            theirs.execute(f"create table {table} (version_num varchar(32))")
    with pytest.raises(StoreUnavailable, match=f"belongs to {owner}"):
        opened(f"sqlite:///{file}")
    with sqlite3.connect(file) as theirs:
        assert theirs.execute("select count(*) from sqlite_master").fetchone() == (1 + len(tables),)


def test_choices_are_asked_told_and_asked_again_by_the_model_and_by_a_retry(tmp_path: Path) -> None:
    url, space = f"sqlite:///{tmp_path / 'study.db'}", searching(chunked_prefill_size=(4096, 8192, 16384))
    study = TuningStudy.open(url, "cycle-1", space, 1)
    study.add_measured({**DEFAULT, CHUNK: 8192}, 100.0, MET, "default")
    study.enqueue({**SEED, CHUNK: 16384}, "seed")
    for number in range(4):  # The last one is the Gaussian process's: it takes over from four results on.
        asked = TuningStudy.open(url, "cycle-1", SearchSpace(), 1).ask(f"run-{number}")
        assert asked.point[CHUNK] in space[CHUNK]
        assert study.ask(f"run-{number}").point == asked.point
        study.tell_measured(asked.number, asked.point[CHUNK] / 100, MET)
    best = study.best()
    assert best is not None and best.point[CHUNK] == 16384
    with pytest.raises(ValueError, match="outside"):
        study.enqueue({**SEED, CHUNK: 1024}, "elsewhere")


def test_runs_that_open_a_new_database_at_the_same_time_share_it(study_url: str) -> None:
    together = threading.Barrier(4)

    def first(_: int) -> SearchSpace:
        together.wait()
        return opened(study_url).space

    with ThreadPoolExecutor(together.parties) as pool:
        spaces = list(pool.map(first, range(together.parties)))
    assert spaces == [SPACE] * together.parties


def test_a_seed_is_enqueued_once_whatever_its_sentence(url: str) -> None:
    study = opened(url)
    study.enqueue(SEED, "safe", "one sentence")
    study.enqueue(SEED, "safe", "another sentence")
    asked = study.ask("run-0")
    assert (asked.kind, asked.why) == ("safe", "one sentence")
    study.tell_measured(asked.number, 100.0, MET)
    assert study.number_of("safe") == asked.number and study.kind(asked.number) == "safe"
    assert study.ask("run-1").kind == "sampler"


def test_a_study_from_before_seeds_had_kinds_goes_on(url: str) -> None:
    opened(url)
    older = raw(url)
    older.enqueue_trial(dict(SEED), user_attrs={"why": "the recorded placement alone"})
    older.set_user_attr("space", {k: list(v) for k, v in SPACE.model_dump().items()})
    study = opened(url)
    study.enqueue(SEED, "placement", "a sentence of today")
    asked = study.ask("run-0")
    assert asked.kind == "placement" and study.space == SPACE
    assert study.ask("run-1").kind == "sampler"
