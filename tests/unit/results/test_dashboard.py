from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.routing import APIRoute
from starlette.routing import Mount
from starlette.testclient import TestClient
from wideloop.manifests.errors import StoreUnavailable
from wideloop.results.artefacts import Artefacts
from wideloop.results.dashboard import app as dashboard
from wideloop.results.records import Cycle
from wideloop.results.store import Store

from tests.unit.results import factory

OPEN = {"/static/plotly.min.js"}


def login(x_user: str = Header("")) -> None:
    if x_user != "ada":
        raise HTTPException(401, "who are you?")


@pytest.fixture
def app(sqlite_store: Store) -> FastAPI:
    return dashboard.create_app(lambda: sqlite_store, [Depends(login)])


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    """Mounted below a prefix, as Airflow does it, and logged in."""
    host = FastAPI()
    host.mount("/some/prefix", app)
    return TestClient(host, base_url="http://test/some/prefix/", headers={"x-user": "ada"})


def get(client: TestClient, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.text


def test_every_route_but_the_static_files_asks_for_the_login(sqlite_store: Store, app: FastAPI) -> None:
    owner = factory.seed(sqlite_store)
    stranger = TestClient(app)
    guarded = [route.path for route in app.router.routes if isinstance(route, APIRoute) and route.path not in OPEN]
    assert sorted(guarded) == ["/", "/api/cycles", "/api/cycles/{cycle_id}", "/cycles", "/cycles/{cycle_id}"]
    for path in guarded:
        answer = stranger.get(path.format(cycle_id=owner.cycle_id))
        assert answer.status_code == 401, path
        assert owner.title not in answer.text
    mounts = [route.path for route in app.router.routes if isinstance(route, Mount)]
    assert mounts == ["/static"]
    for path in ("/openapi.json", "/docs", "/redoc"):
        assert stranger.get(path).status_code == 404


def test_the_routes_of_views_of_the_artefact_store_ask_for_the_login(sqlite_store: Store, tmp_path: Path) -> None:
    app = dashboard.create_app(lambda: sqlite_store, [Depends(login)], lambda: Artefacts(tmp_path))
    owner = factory.seed(sqlite_store)
    for path in (f"/cycles/{owner.cycle_id}/experts", f"/api/cycles/{owner.cycle_id}/experts"):
        assert TestClient(app).get(path).status_code == 401, path
        assert TestClient(app, headers={"x-user": "ada"}).get(path).status_code == 200, path


def test_the_page_says_what_to_set_and_how_sure_that_is(sqlite_store: Store, client: TestClient) -> None:
    owner = factory.seed(sqlite_store)
    found = sqlite_store.recommendation(owner.cycle_id)
    assert found is not None
    answer = _section(get(client, ""), "answer")
    assert f"Use trial {found.trial_number}&#39;s configuration" in answer
    for number in (found.gain, found.gain_low, found.gain_high):
        assert f"{number * 100:+.1f} %" in answer
    assert "2 interleaved pairs" in answer
    assert re.search(r"Redundant experts</th><td>decode</td>\s*<td[^>]*>0</td><td[^>]*><strong>32<", answer)
    assert re.search(r"Memory fraction</th><td>decode</td>\s*<td[^>]*>0.82</td><td[^>]*><strong>0.86<", answer)
    assert "limit 4,000 ms" in answer


def test_abbreviations_have_a_hint(sqlite_store: Store, client: TestClient) -> None:
    factory.seed(sqlite_store)
    page = get(client, "")
    assert '<abbr title="time to first token: 99 % of the requests are faster">TTFT p99</abbr> 2,310 ms' in page
    assert re.search(r'<abbr title="service-level objective[^"]*">SLO</abbr>', page)


def test_every_trial_is_in_the_table_with_the_stores_numbers(sqlite_store: Store, client: TestClient) -> None:
    owner = factory.seed(sqlite_store)
    table = _section(get(client, f"cycles/{owner.cycle_id}"), "trials")
    rows = dict(re.findall(r'<tr[^>]*data-trial="(\d+)">(.*?)</tr>', table, re.S))
    assert sorted(map(int, rows)) == list(range(len(factory.SWEEP)))
    for trial in sqlite_store.trials(cycle_id=owner.cycle_id):
        row = rows[str(trial.number)]
        assert f"{trial.gpu_seconds / 60:,.1f}" in row
        if trial.value is None:
            assert "infeasible" in row
            assert "out of memory" in row
            continue
        measured = sqlite_store.measurements(cycle_id=owner.cycle_id, purpose="trial", trial_number=trial.number)
        level = next(m for m in measured if m.concurrency == 32)
        assert f"{level.output_tok_s_per_gpu:,.1f}" in row
        assert f"{level.ttft_ms_p99:,.0f} ms" in row
        assert f"{level.tpot_ms_p99:.1f} ms" in row
    assert "outside SLO" in rows["5"]
    assert "TPOT p99 over the limit" in rows["5"]
    assert "default" in rows["0"]
    assert ">best<" in rows["8"]


def test_the_prefill_chunk_is_shown_where_trials_differ_in_it(sqlite_store: Store, client: TestClient) -> None:
    owner = factory.seed(sqlite_store)
    assert "Prefill chunk</button>" not in get(client, f"cycles/{owner.cycle_id}")
    for number, chunk in ((1, 8192), (2, 16384)):
        trial = factory.trial(owner, number)
        prefill = {**trial.knobs["prefill"], "chunked_prefill_size": chunk}
        sqlite_store.put(trial.model_copy(update={"knobs": {**trial.knobs, "prefill": prefill}}))
    page = get(client, f"cycles/{owner.cycle_id}")
    assert "Prefill chunk</button>" in page
    assert re.search(r'data-trial="2".*?<td class="num" data-sort="16384">', page, re.DOTALL)


def test_simulated_results_say_so_wherever_they_are_shown(sqlite_store: Store, client: TestClient) -> None:
    owner = factory.seed(sqlite_store)
    page = get(client, "")
    assert "<title>[SIMULATED]" in page
    for section in ("answer", "pareto", "experts", "trials", "provenance"):
        assert 'class="simulated"' in _section(page, section), section
    assert f'download="SIMULATED-{owner.cycle_id}.json"' in page
    assert 'class="simulated"' in get(client, "cycles")
    assert client.get("api/cycles").json()["notice"].startswith("SIMULATED")
    document = client.get(f"api/cycles/{owner.cycle_id}").json()
    assert document["notice"].startswith("SIMULATED")
    for chart in document["charts"].values():
        assert "SIMULATED" in chart["layout"]["title"]["text"]


def test_measured_results_are_not_called_simulated(sqlite_store: Store, client: TestClient) -> None:
    owner = factory.cycle(engine="sglang", simulated=False)
    sqlite_store.put(owner, factory.trial(owner, 0), *factory.trial_measurements(owner, 0))
    page = get(client, "")
    assert "simulated" not in page.lower()
    assert client.get(f"api/cycles/{owner.cycle_id}").json()["notice"] is None


def test_the_json_holds_what_the_store_holds(sqlite_store: Store, client: TestClient) -> None:
    owner = factory.seed(sqlite_store)
    document = client.get(f"api/cycles/{owner.cycle_id}").json()
    measured = sqlite_store.measurements(cycle_id=owner.cycle_id)
    assert document["measurements"] == [m.model_dump(mode="json") for m in measured]
    assert document["raw_trials"] == [t.model_dump(mode="json") for t in sqlite_store.trials(cycle_id=owner.cycle_id)]
    assert document["recommendation"] == json.loads(factory.recommendation(owner).model_dump_json())
    assert document["cycle"] == owner.model_dump(mode="json")


def test_the_revision_changes_with_the_records_and_only_then(sqlite_store: Store, client: TestClient) -> None:
    owner = factory.seed(sqlite_store, "running")
    path = f"api/cycles/{owner.cycle_id}"
    first = client.get(path).json()["revision"]
    assert client.get(path).json()["revision"] == first
    sqlite_store.put(factory.trial(owner, 6))
    assert client.get(path).json()["revision"] != first


def test_a_running_cycle_shows_how_far_it_is(sqlite_store: Store, client: TestClient) -> None:
    factory.seed(sqlite_store, "running")
    page = get(client, "")
    answer = _section(page, "answer")
    assert "Trial 7 of 10 is running" in answer
    assert "6 of 10" in answer
    assert "274.6" in answer
    assert "best so far" in _section(page, "trials")
    assert 'data-state="running"' in page


def test_a_failed_cycle_names_the_stage_and_the_reason(sqlite_store: Store, client: TestClient) -> None:
    factory.seed(sqlite_store, "failed")
    answer = _section(get(client, ""), "answer")
    assert "Stage &#39;baseline&#39; failed" in answer
    assert "[crashed] prefill-0: the worker ended with exit status 1" in answer
    assert "Address already in use" in answer
    assert "recommend" in answer.lower()


def test_a_cycle_that_failed_after_recommending_is_red(sqlite_store: Store, client: TestClient) -> None:
    owner = factory.seed(sqlite_store)
    sqlite_store.put(owner.model_copy(update={"state": "failed"}))
    answer = _section(get(client, ""), "answer")
    assert "The cycle failed" in answer
    assert "What to set" not in answer


def test_an_unproven_gain_is_not_recommended(sqlite_store: Store, client: TestClient) -> None:
    owner = factory.seed(sqlite_store)
    sqlite_store.put(factory.recommendation(owner, verdict="inconclusive", gain_low=-0.1, reason="too noisy"))
    answer = _section(get(client, ""), "answer")
    assert "Not proven: trial 8&#39;s configuration measured +24.1 % against the default" in answer
    assert "Too noisy." in answer
    assert "What to set" not in answer


def test_flat_knobs_are_those_of_the_worker_that_decodes(sqlite_store: Store, client: TestClient) -> None:
    owner = factory.seed(sqlite_store)
    before = {"redundant_experts": 0, "mem_fraction_static": 0.82, "cuda_graph_max_bs": 128, "placement": "trivial"}
    after = before | {"redundant_experts": 32, "placement": "recorded"}
    sqlite_store.put(factory.recommendation(owner, knobs=after, default_knobs=before))
    answer = _section(get(client, ""), "answer")
    assert "worker that decodes" in answer
    assert "Worker</th>" not in answer
    assert re.search(r"Expert placement</th>\s*<td[^>]*>trivial</td><td[^>]*><strong>recorded<", answer)


def test_without_pairs_no_interval_is_claimed(sqlite_store: Store, client: TestClient) -> None:
    owner = factory.seed(sqlite_store)
    alone = {"verdict": "keep default", "gain": 0.0, "gain_low": 0.0, "gain_high": 0.0, "confidence": 0.0, "pairs": 0}
    sqlite_store.put(factory.recommendation(owner, **alone, reason="no trial beat the default configuration"))
    answer = _section(get(client, ""), "answer")
    assert "Keep the default configuration" in answer
    assert "no interval: too few pairs" in answer
    assert "% interval" not in answer
    listed = get(client, "cycles")
    assert "+0.0 %" not in listed
    assert "R0 / 0.82 / 128" in listed  # The default's, which is to be kept; not the best trial's.


def test_a_default_that_no_trial_beat_is_not_compared_with_itself(sqlite_store: Store, client: TestClient) -> None:
    owner = factory.seed(sqlite_store)
    alone = {"verdict": "keep default", "gain": 0.0, "gain_low": 0.0, "gain_high": 0.0, "confidence": 0.0, "pairs": 0}
    default = factory.knobs(*factory.SWEEP[0][:3])
    sqlite_store.put(factory.recommendation(owner, **alone, trial_number=0, knobs=default, reason="none was better"))
    answer = _section(get(client, ""), "answer")
    assert "What to keep" in answer
    assert "Gain over default" not in answer
    assert "Trial 0" not in answer
    assert "231.4 <small>tok/s/GPU" in answer


def test_a_missed_slo_is_shown_with_the_repeats_that_missed_it(sqlite_store: Store, client: TestClient) -> None:
    owner = factory.seed(sqlite_store)
    slow = [m for m in factory.repeats(owner) if m.trial_number == factory.BEST][-1]
    sqlite_store.put(slow.model_copy(update={"ttft_ms_p99": 4321.0}))
    sqlite_store.put(factory.recommendation(owner, verdict="keep default", slo_met=False))
    answer = _section(get(client, ""), "answer")
    assert "missed" in answer
    assert "TTFT p99 4,321 ms (limit 4,000 ms)" in answer


def test_the_image_and_the_weights_show_what_was_verified_and_when(sqlite_store: Store, client: TestClient) -> None:
    owner = factory.seed(sqlite_store)
    section = _section(get(client, ""), "provenance")
    assert "ai-dynamo 1.6.1, python 3.12.8; last verified 2026-11-20 06:00 UTC" in section
    assert "<code>/models/deepseek-r1</code>" in section
    assert "163 files, 688.6 GB; last verified 2026-11-20 06:00 UTC" in section
    image, _ = factory.assets(owner)
    sqlite_store.put(image.model_copy(update={"value": "sha256:rebuilt", "detail": {"versions": {"ai-dynamo": "9"}}}))
    later = _section(get(client, ""), "provenance")
    # The cycle measured the former image, which is not the one that was verified since.
    assert factory.IMAGE in later
    assert "ai-dynamo" not in later


def test_a_cycle_that_has_not_measured_shows_its_targets_image(sqlite_store: Store, client: TestClient) -> None:
    run = other(sqlite_store, "wideep_image")
    sqlite_store.put(*factory.assets(run))
    assert "ai-dynamo 1.6.1" in _section(get(client, f"cycles/{run.cycle_id}"), "provenance")


def other(store: Store, dag_id: str, state: str = "success", **changes: object) -> Cycle:
    """A run of another DAG than the cycle's, an hour after it."""
    began = factory.T0 + timedelta(hours=1)
    run = factory.cycle(dag_id, state, dag_id=dag_id, started_at=began, **changes)  # type: ignore[arg-type]
    store.put(run, factory.stages(run)[0])
    return run


def test_trying_another_dag_leaves_the_recommendation_in_front(sqlite_store: Store, client: TestClient) -> None:
    factory.seed(sqlite_store, cycle_id="whole")
    other(sqlite_store, "wideep_image")
    page = get(client, "")
    assert "Use trial 8&#39;s configuration" in page
    assert 'Newer run: <a href="./cycles/wideep_image">' in page
    picker = re.findall(r'<option value="([^"]+)"( selected)?>([^<]+)<', page)
    assert [(value, bool(selected)) for value, selected, _ in picker] == [("wideep_image", False), ("whole", True)]
    assert "wideep_image" in picker[0][2]
    assert "<td>wideep_image</td>" in get(client, "cycles")


def test_the_cycle_shown_is_in_the_selector_however_old(sqlite_store: Store, client: TestClient) -> None:
    factory.seed(sqlite_store, cycle_id="whole")
    for n in range(40):
        began = factory.T0 + timedelta(hours=1 + n)
        sqlite_store.put(factory.cycle(f"image-{n}", dag_id="wideep_image", started_at=began))
    assert '<option value="whole" selected>' in get(client, "")
    assert "whole" in get(client, "cycles")
    short = get(client, "cycles?limit=10")
    assert 'href="cycles/whole"' not in short
    (more,) = re.findall(r'href="(cycles\?limit=\d+)"', short)
    assert 'image-20"' in get(client, more)
    assert client.get("cycles?limit=0").status_code == 422


def test_a_run_that_measures_nothing_shows_its_stages_only(sqlite_store: Store, client: TestClient) -> None:
    run = other(sqlite_store, "wideep_image")
    page = get(client, f"cycles/{run.cycle_id}")
    assert "The image is ready" in _section(page, "answer")
    assert "Verified, re-used" in _section(page, "answer")
    assert "image" in _section(page, "timeline")
    for absent in ("pareto", "trials", "levels", "experts"):
        assert f'aria-labelledby="{absent}"' not in page, absent
    assert "recommend" not in page


def test_a_running_image_counts_no_trials(sqlite_store: Store, client: TestClient) -> None:
    run = other(sqlite_store, "wideep_image", "running")
    assert "Trials done" not in get(client, f"cycles/{run.cycle_id}")


def test_a_benchmark_shows_its_curve(sqlite_store: Store, client: TestClient) -> None:
    run = other(sqlite_store, "wideep_benchmark")
    for concurrency, rate in ((16, 1600.0), (48, 3200.0)):
        sqlite_store.put(
            factory.measurement(
                run,
                purpose="benchmark",
                label="by hand",
                trial_number=None,
                concurrency=concurrency,
                output_tok_s=rate,
            )
        )
    page = get(client, f"cycles/{run.cycle_id}")
    assert "200.0 output tok/s per GPU at concurrency 48" in _section(page, "answer")
    table = _section(page, "levels")
    assert re.findall(r'<th scope="row" class="num">(\d+)</th>', table) == ["16", "48"]
    for cell in ("1,600.0", "100.0", "2,310 ms", "46.0 ms", "0 of 96", "ok"):
        assert f">{cell}<" in table, cell
    assert '<span class="spread" title="standard error within the run"> ± 21.7</span>' in table
    assert 'class="simulated"' in table
    assert 'aria-labelledby="trials"' not in page


def test_experts_show_balance_and_gain(sqlite_store: Store, client: TestClient) -> None:
    run = other(sqlite_store, "wideep_experts")
    sqlite_store.put(*factory.recordings(run))
    for label, rate in (("in order", 1000.0), ("placed", 1100.0)):
        changes = {"purpose": "experts", "label": label, "trial_number": None, "output_tok_s": rate}
        sqlite_store.put(factory.measurement(run, **changes))
    page = get(client, f"cycles/{run.cycle_id}")
    assert "+10.0 % output tok/s at concurrency 32" in _section(page, "answer")
    assert ">+10.0 %<" in _section(page, "levels")
    assert "0.93" in _section(page, "experts")
    assert 'aria-labelledby="pareto"' not in page


def test_an_empty_store_tells_what_to_do(client: TestClient) -> None:
    for path in ("", "cycles"):
        page = get(client, path)
        assert "make demo" in page
        assert "wideep_cycle" in page
    assert client.get("api/cycles").json() == {"notice": None, "cycles": []}


def test_an_unknown_cycle_is_not_found(client: TestClient) -> None:
    for path in ("cycles/nothing", "api/cycles/nothing"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert "nothing" in answer.text


def test_a_store_that_cannot_be_used_is_reported_and_recovers(sqlite_store: Store) -> None:
    works = False

    def store() -> Store:
        if not works:
            raise StoreUnavailable("results database postgresql+psycopg://u:***@db/r: connection refused")
        return sqlite_store

    client = TestClient(dashboard.create_app(store, []))
    for path in ("/", "/api/cycles"):
        answer = client.get(path)
        assert answer.status_code == 503
        assert "connection refused" in answer.text
    assert client.get("/api/cycles").json()["detail"].startswith("results database")
    works = True
    assert client.get("/").status_code == 200


def test_urls_are_relative_and_reach_something(sqlite_store: Store, client: TestClient) -> None:
    name = "manual__2026-11-20T06:00:00+00:00"
    factory.seed(sqlite_store, cycle_id=name)
    for path in ("", "cycles", "cycles/manual__2026-11-20T06%3A00%3A00%2B00%3A00"):
        page = get(client, path)
        urls = re.findall(r'(?:href|src|data-json)="([^"]+)"', page)
        assert len(urls) > 4
        for url in urls:
            assert not url.startswith(("/", "http")), url
            assert client.get(str(client.base_url.join(path).join(url))).status_code == 200, url


def test_what_users_wrote_is_not_markup(sqlite_store: Store, client: TestClient) -> None:
    factory.seed(sqlite_store, title="<script>alert(1)</script>")
    page = get(client, "")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_the_policy_allows_nothing_from_elsewhere(client: TestClient) -> None:
    policy = client.get("").headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert client.get("").headers["cache-control"] == "no-store"
    assert client.get("static/plotly.min.js").headers["content-type"].startswith("text/javascript")


def test_the_dashboard_knows_no_airflow() -> None:
    for source in Path(dashboard.__file__).parent.rglob("*.py"):
        assert not re.search(r"^\s*(import|from) airflow", source.read_text(), re.M), source


def test_the_list_has_every_cycle_newest_first(sqlite_store: Store, client: TestClient) -> None:
    for days in (1, 3, 2):
        factory.seed(sqlite_store, cycle_id=f"c{days}", started_at=factory.T0 + timedelta(days=days))
    page = get(client, "cycles")
    assert re.findall(r'href="cycles/(c\d)"', page) == ["c3", "c2", "c1"]
    assert page.count("+24.1 %") == 3


def _section(page: str, name: str) -> str:
    """The section of the page that the heading ``name`` labels, without the hints of abbreviations."""
    found = re.search(rf'<section[^>]*aria-labelledby="{name}".*?</section>', page, re.S)
    assert found, f"no section {name}"
    return re.sub(r"</?abbr[^>]*>", "", found.group())
