from __future__ import annotations

from datetime import timedelta

import factory
import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.dashboard import formats
from results.dashboard.charts import pareto
from results.dashboard.knobs import changes, decoding, label
from results.dashboard.labels import positions
from results.dashboard.timeline import timeline
from results.dashboard.trials import rows
from results.records import Gate


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
    for level in (low, high):
        trial = factory.trial(owner, 1, value=level.output_tok_s_per_gpu)
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


coordinates = st.floats(min_value=-1e3, max_value=1e3)


@given(st.lists(st.tuples(coordinates, coordinates), max_size=14))
def test_every_point_gets_a_position_that_plotly_knows(points: list[tuple[float, float]]) -> None:
    known = {"top center", "bottom center", "middle right", "middle left"}
    assert set(positions(points, ["label"] * len(points))) <= known


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
