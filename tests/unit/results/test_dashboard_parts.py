from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wideloop.results.dashboard import formats
from wideloop.results.dashboard.charts import pareto
from wideloop.results.dashboard.finished import finished
from wideloop.results.dashboard.knobs import changes, decoding, label
from wideloop.results.dashboard.labels import positions
from wideloop.results.dashboard.landing import landing
from wideloop.results.dashboard.levels import levels
from wideloop.results.dashboard.timeline import timeline
from wideloop.results.dashboard.trials import rows
from wideloop.results.records import Cycle, Gate
from wideloop.results.store import Store

from tests.unit.results import factory


def shown(scenario: str = "success", recommended: int | None = factory.BEST):
    owner = factory.cycle()
    trials = [factory.trial(owner, n) for n in range(len(factory.SWEEP))]
    measured = [m for n in range(len(factory.SWEEP)) for m in factory.trial_measurements(owner, n)]
    measured += list(factory.repeats(owner))
    return rows(trials, measured, factory.SLO, recommended), measured


def trace(figure: dict, name: str) -> dict:
    return next(t for t in figure["data"] if t["name"] == name)


def test_a_trial_shows_the_level_its_value_was_taken_from() -> None:
    owner = factory.cycle()
    low, high = factory.trial_measurements(owner, 1)
    # The throughputs are the other way round: only the stored level tells which one is meant.
    for level, other in ((low, high), (high, low)):
        trial = factory.trial(owner, 1, value=other.output_tok_s_per_gpu, concurrency=level.concurrency)
        (row,) = rows([trial], [low, high], factory.SLO, None)
        assert (row.concurrency, row.ttft_ms_p99) == (level.concurrency, level.ttft_ms_p99)


def test_a_trial_stored_without_its_level_shows_the_level_with_the_throughput_nearest_to_its_value() -> None:
    owner = factory.cycle()
    low, high = factory.trial_measurements(owner, 1)
    for level in (low, high):
        trial = factory.trial(owner, 1, value=level.output_tok_s_per_gpu, concurrency=None)
        (row,) = rows([trial], [low, high], factory.SLO, None)
        assert (row.concurrency, row.ttft_ms_p99) == (level.concurrency, level.ttft_ms_p99)


def test_the_default_goes_by_its_baseline_until_it_has_a_trial_of_its_own() -> None:
    owner = factory.cycle()
    baseline = factory.measurement(owner, purpose="baseline", label="default", trial_number=None)
    (row,) = rows([factory.trial(owner, 0)], [baseline], factory.SLO, None)
    assert row.tok_s_per_gpu == pytest.approx(baseline.output_tok_s_per_gpu)
    (other,) = rows([factory.trial(owner, 1)], [baseline], factory.SLO, None)
    assert not other.measured


def test_the_best_so_far_meets_the_slo_and_the_gates() -> None:
    owner = factory.cycle()
    bad = Gate(name="errors", value=0.2, limit=0.01, ok=False, meaning="at most 1 % of the requests failed")
    trials = [factory.trial(owner, n) for n in (0, 1, 5, 8)]
    measured = [
        m.model_copy(update={"gates": (bad,)} if n == 8 else {})
        for n in (0, 1, 5, 8)
        for m in factory.trial_measurements(owner, n)
    ]
    found = {row.number: row for row in rows(trials, measured, factory.SLO, None)}
    assert [n for n, row in found.items() if row.is_best] == [1]
    assert found[5].mark == "slo"
    assert found[8].mark == "gates"
    assert "errors is 0.2, limit 0.01" in found[8].why


def test_every_kind_of_trial_has_a_mark_of_its_own() -> None:
    found, measured = shown()
    figure = pareto(found, measured, simulated=True, per="gpu")
    marks = {t["name"]: (t["marker"]["symbol"], len(t["x"])) for t in figure["data"] if "marker" in t}
    assert marks == {
        "within the SLO": ("circle", 4),
        "outside the SLO": ("diamond-open", 2),
        "default": ("square", 1),
        "best": ("star", 1),
        "did not run": ("x", 2),
    }
    assert len({symbol for symbol, _ in marks.values()}) == len(marks)


def test_a_repeated_configuration_stands_at_its_mean_with_its_range() -> None:
    found, measured = shown()
    best = trace(pareto(found, measured, simulated=True, per="gpu"), "best")
    assert best["y"] == [pytest.approx((286.0 + 288.8) / 2)]
    assert best["error_y"]["array"] == [pytest.approx(1.4)]
    assert best["x"] == [pytest.approx((1000 / (34.8 * 1.01) + 1000 / (34.8 * 0.99)) / 2)]


def test_the_front_is_that_of_the_axes_shown_and_leaves_out_what_misses_the_slo() -> None:
    found, measured = shown()
    front = trace(pareto(found, measured, simulated=True, per="gpu"), "Pareto front")
    assert front["x"] == sorted(front["x"])
    assert front["y"] == sorted(front["y"], reverse=True)
    assert 1000 / 33.0 not in front["x"]  # trial 6: the most interactive, but outside the SLO
    decode = trace(pareto(found, measured, simulated=True, per="decode_gpu"), "Pareto front")
    assert decode["y"] == [pytest.approx(2 * y) for y in front["y"]]  # 8 of the 16 GPUs decode


def test_a_chart_without_measurements_is_an_empty_chart() -> None:
    figure = pareto([], [], simulated=False, per="gpu")
    assert figure["data"] == []
    assert "SIMULATED" not in figure["layout"]["title"]["text"]


def test_the_timeline_adds_up_what_trials_cost_and_what_was_lost() -> None:
    owner = factory.cycle()
    trials = [factory.trial(owner, n) for n in range(len(factory.SWEEP))]
    found = timeline(owner, factory.stages(owner), trials, now=owner.started_at)
    assert found.seconds == 560
    assert found.trial_gpu_minutes == pytest.approx(sum(t.gpu_seconds for t in trials) / 60)
    assert found.wasted_trials == 2
    assert found.wasted_gpu_minutes == pytest.approx((trials[3].gpu_seconds + trials[7].gpu_seconds) / 60)
    tune = next(bar for bar in found.stages if bar.name == "tune")
    assert tune.gpu_minutes == pytest.approx(found.trial_gpu_minutes)
    assert tune.left == pytest.approx(117 / 560 * 100)
    assert all(0 <= bar.left <= 100 and bar.left + bar.width <= 100.01 for bar in found.stages + found.trials)


def test_a_default_that_the_baseline_measured_does_not_count_into_the_sweep() -> None:
    owner = factory.cycle()
    early = factory.trial(owner, 0, started_at=owner.started_at + timedelta(seconds=20))
    late = factory.trial(owner, 1)
    found = timeline(owner, factory.stages(owner), [early, late], now=owner.started_at)
    tune = next(bar for bar in found.stages if bar.name == "tune")
    assert tune.gpu_minutes == pytest.approx(late.gpu_seconds / 60)


def test_what_still_runs_lasts_until_now() -> None:
    owner = factory.cycle(state="running")
    now = owner.started_at + timedelta(seconds=217)
    found = timeline(owner, factory.stages(owner), [], now)
    assert found.stages[-1].seconds == 100
    assert found.stages[-1].left + found.stages[-1].width == pytest.approx(100)


def test_knobs_may_be_given_per_role_or_flat() -> None:
    flat = {"redundant_experts": 16, "mem_fraction_static": 0.9, "cuda_graph_max_bs": None}
    assert label(flat) == "R16 / 0.9 / engine's own"
    assert decoding({"prefill": {}, "decode": flat}) == flat
    rows_ = changes({"decode": flat | {"two_batch_overlap": False}}, {"decode": flat | {"two_batch_overlap": True}})
    assert [(r.name, r.default, r.value, r.changed) for r in rows_] == [
        ("redundant_experts", "16", "16", False),
        ("mem_fraction_static", "0.9", "0.9", False),
        ("two_batch_overlap", "off", "on", True),
    ]


def test_labels_of_neighbours_do_not_cover_each_other() -> None:
    points = [(0.0, 0.0), (100.0, 100.0), (97.0, 98.0), (50.0, 50.0)]
    chosen = positions(points, ["R16 / 0.88 / 256"] * 4)
    assert chosen[1] == chosen[3] == "top center"
    assert chosen[2] != "top center"


def test_a_label_without_room_is_left_out_but_the_default_and_the_best_keep_theirs() -> None:
    crowd = [(float(x), float(y)) for x in range(12) for y in range(12)]
    texts = ["R16 / 0.88 / 256"] * len(crowd)
    chosen = positions(crowd, texts, must=(27,))
    assert chosen[27] is not None
    assert chosen.count(None) > len(crowd) / 2


def test_a_label_keeps_off_the_line_to_its_point() -> None:
    points = [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0)]
    up = positions(points, ["R4 / 0.9 / 8", "", ""], lines=[(points[0], points[1])])[0]
    assert up == "bottom center"
    across = positions(points, ["R4 / 0.9 / 8", "", ""], lines=[(points[0], points[2])])[0]
    assert across == "top center"


def test_the_chart_names_the_default_the_best_and_the_front_and_the_rest_on_hover() -> None:
    found, measured = shown()
    figure = pareto(found, measured, simulated=True, per="gpu")
    assert trace(figure, "default")["text"] == ["default R0 / 0.82 / 128"]
    assert trace(figure, "best")["text"] == ["best R32 / 0.86 / 256"]
    others = trace(figure, "within the SLO")
    named = {number: text for (number, *_), text in zip(others["customdata"], others["text"], strict=True)}
    assert named == {1: "", 2: "", 4: "", 9: "R24 / 0.84 / 192"}
    assert all("memory" in knobs for _, knobs, _ in others["customdata"])


def test_a_default_that_is_the_best_is_called_both() -> None:
    found, measured = shown(recommended=0)
    assert trace(pareto(found, measured, simulated=True, per="gpu"), "best")["text"] == [
        "default, best R0 / 0.82 / 128"
    ]


def put(store: Store, dag_id: str, hours: float, state: str = "success", **changes: object) -> Cycle:
    began = factory.T0 + timedelta(hours=hours)
    run = factory.cycle(f"{dag_id}-{hours:g}", state, dag_id=dag_id, started_at=began, **changes)  # type: ignore[arg-type]
    store.put(run)
    return run


def test_the_newest_whole_cycle_stays_in_front_of_later_runs_of_other_dags(sqlite_store: Store) -> None:
    factory.seed(sqlite_store, cycle_id="whole")
    for hours in range(1, 60):
        newest = put(sqlite_store, "wideep_image", hours)
    found = landing(sqlite_store)
    assert found is not None
    assert (found.cycle.cycle_id, found.recommended) == ("whole", None)
    assert found.newer == newest


def test_a_cycle_without_a_recommendation_points_to_the_last_one(sqlite_store: Store) -> None:
    factory.seed(sqlite_store, cycle_id="old")
    put(sqlite_store, "wideep_cycle", 1, "failed")
    now = put(sqlite_store, "wideep_cycle", 2, "running")
    found = landing(sqlite_store)
    assert found is not None
    assert (found.cycle, found.newer) == (now, None)
    assert found.recommended is not None
    assert found.recommended.cycle.cycle_id == "old"


def test_without_a_whole_cycle_the_newest_that_measures_is_shown(sqlite_store: Store) -> None:
    assert landing(sqlite_store) is None

    def first() -> str:
        found = landing(sqlite_store)
        assert found is not None
        return found.cycle.cycle_id

    put(sqlite_store, "wideep_weights", 1)
    put(sqlite_store, "wideep_image", 2)
    assert first() == "wideep_image-2"
    bench = put(sqlite_store, "wideep_benchmark", 0.5)
    assert first() == "wideep_image-2"  # It measured nothing.
    sqlite_store.put(factory.measurement(bench, purpose="benchmark", label="by hand", trial_number=None))
    assert first() == bench.cycle_id
    assert first() != put(sqlite_store, "wideep_deploy", 3, "running").cycle_id
    assert put(sqlite_store, "wideep_tune", 0.7, "running").cycle_id == first()


def by_hand(owner: Cycle, purpose: str, label: str, **changes: object):
    return factory.measurement(owner, purpose=purpose, label=label, trial_number=None, **changes)


def test_levels_are_ordered_and_the_gain_needs_both_sides_valid() -> None:
    owner = factory.cycle(dag_id="wideep_experts")
    bad = Gate(name="errors", value=0.2, limit=0.01, ok=False, meaning="at most 1 % of the requests failed")
    found = levels(
        [
            by_hand(owner, "experts", "placed", concurrency=32, output_tok_s=1200.0),
            by_hand(owner, "experts", "placed", concurrency=8, output_tok_s=600.0, gates=(bad,)),
            by_hand(owner, "experts", "in order", concurrency=32, output_tok_s=1000.0),
            by_hand(owner, "experts", "in order", concurrency=8, output_tok_s=500.0),
            factory.measurement(owner),
        ]
    )
    assert [(row.concurrency, row.label) for row in found] == [
        (8, "in order"),
        (8, "placed"),
        (32, "in order"),
        (32, "placed"),
    ]
    assert [row.gain for row in found] == [None, None, None, pytest.approx(0.2)]
    assert found[1].gates_failed == ["errors is 0.2, limit 0.01 (at most 1 % of the requests failed)"]
    sentence, why = finished(owner, "experts", [], [], found, list(factory.recordings(owner)))
    assert sentence == "Experts placed: +20.0 % output tok/s at concurrency 32"
    assert "decode balancedness 0.61 in order, 0.93 placed" in why


def test_experts_are_compared_pair_by_pair():
    owner = factory.cycle(dag_id="wideep_experts")
    sides = {"in order": (1000.0, 500.0, 800.0), "placed": (1100.0, 550.0, 872.0)}
    made = [
        by_hand(owner, "experts", side, concurrency=32, output_tok_s=tok_s, repeat=k)
        for side, speeds in sides.items()
        for k, tok_s in enumerate(speeds)
    ]
    found = levels(made)
    assert [(row.label, row.pair, row.gain and round(row.gain, 3)) for row in found] == [
        ("in order", 0, None), ("placed", 0, 0.1), ("in order", 1, None), ("placed", 1, 0.1), ("in order", 2, None),
        ("placed", 2, 0.09),
    ]  # fmt: skip
    sentence, why = finished(owner, "experts", [], [], found, [])
    assert sentence == "Experts placed: +9.7 % output tok/s at concurrency 32"
    assert why == "95 % interval +8.2 % to +11.1 %, 3 pairs"


def test_a_benchmark_is_headed_by_its_best_valid_level() -> None:
    owner = factory.cycle(dag_id="wideep_benchmark")
    bad = Gate(name="concurrency", value=0.7, limit=0.95, ok=False, meaning="the client kept its slots busy")
    good = by_hand(owner, "benchmark", "by hand", concurrency=16, output_tok_s=1600.0)
    invalid = by_hand(owner, "benchmark", "by hand", concurrency=64, output_tok_s=3200.0, gates=(bad,))
    sentence, why = finished(owner, "benchmark", [], [], levels([good, invalid]), [])
    assert sentence == "100.0 output tok/s per GPU at concurrency 16"
    assert "Invalid at concurrency 64: concurrency is 0.7, limit 0.95" in why
    assert finished(owner, "benchmark", [], [], levels([invalid]), [])[0] == "No level of this benchmark is valid"


def test_a_sweep_names_its_best_and_says_that_it_recommends_nothing() -> None:
    owner = factory.cycle(dag_id="wideep_tune")
    found, _ = shown(recommended=None)
    sentence, why = finished(owner, "sweep", [], found, [], [])
    assert sentence == "Trial 8 gave 287.3 output tok/s per GPU, +24.2 % over the default"
    assert "only wideep_cycle repeats both and recommends" in why
    alone = [row for row in found if row.is_default]
    best = [row.model_copy(update={"is_best": True}) for row in alone]
    assert finished(owner, "sweep", [], best, [], [])[0] == "No trial beat the default configuration"
    lost = [row for row in found if row.mark == "infeasible"]
    assert finished(owner, "sweep", [], lost, [], [])[0] == "No trial met the objectives"


coordinates = st.floats(min_value=-1e3, max_value=1e3)


@given(st.lists(st.tuples(coordinates, coordinates), max_size=14))
def test_every_point_gets_a_position_that_plotly_knows(points: list[tuple[float, float]]) -> None:
    known = {f"{row} {column}" for row in ("top", "middle", "bottom") for column in ("left", "center", "right")}
    known -= {"middle center"}
    chosen = positions(points, ["label"] * len(points), must=range(len(points)))
    assert set(chosen) <= known
    assert all(place in known or place is None for place in positions(points, ["label"] * len(points)))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, formats.MISSING), (3, "3.0 s"), (59.7, "1 min 00 s"), (560, "9 min 20 s"), (11100, "3 h 05 min")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert formats.duration(seconds) == text


def test_numbers() -> None:
    assert formats.percent(-0.0312) == "-3.1 %"
    assert formats.milliseconds(2310.4) == "2,310 ms"
    assert formats.milliseconds(45.96) == "46.0 ms"
    assert formats.short("sha256:" + "ab" * 32) == "ab" * 6
    assert formats.path_part("a+b:c/d") == "a%2Bb%3Ac%2Fd"
    assert formats.sentence("no stop") == "No stop."
