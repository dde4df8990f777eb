"""The experts' page: what was recorded, advised and proven, marked as simulated where it is."""

from __future__ import annotations

import json
import re

import pytest
from starlette.testclient import TestClient
from wideloop.results.artefacts import Artefacts
from wideloop.results.dashboard.app import create_app
from wideloop.results.experts.analysis import role_report
from wideloop.results.experts.proofs import keep_proofs

from tests.unit.results import experts_factory, factory


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory):
    kept = Artefacts(tmp_path_factory.mktemp("artefacts"))
    experts_factory.seed(kept, "experts-1")
    return kept


@pytest.fixture
def client(sqlite_store, artefacts):
    factory.seed(sqlite_store, cycle_id="experts-1")
    factory.seed(sqlite_store, cycle_id="nothing-recorded")
    return TestClient(create_app(lambda: sqlite_store, [], lambda: artefacts))


def page(client, cycle="experts-1"):
    answer = client.get(f"/cycles/{cycle}/experts")
    assert answer.status_code == 200, answer.text
    return answer.text


def figures(client, cycle="experts-1"):
    return json.loads(re.search(r'id="figures">(.*?)</script>', page(client, cycle), re.DOTALL)[1])


def test_both_roles_have_their_verdict_and_table(client):
    text = page(client)
    for role in experts_factory.reports():
        assert f"{role.role.capitalize()}, EP {role.ep}" in text
        assert role.own.text in text
        for row in role.own.possible:
            assert f"R = {row.redundant}" in text


@pytest.mark.parametrize("agrees", [True, False])
def test_a_recommendation_that_differs_from_the_advice_says_why(sqlite_store, client, agrees):
    (owner,) = [c for c in sqlite_store.cycles() if c.cycle_id == "experts-1"]
    report = next(r for r in experts_factory.reports() if r.role == "decode")
    recommended = report.own.redundant + (0 if agrees else report.ep)
    knobs = {"decode": {"redundant_experts": recommended, "mem_fraction_static": 0.91}}
    sqlite_store.put(factory.recommendation(owner, knobs=knobs))
    told = f"recommends {recommended} redundant experts, at memory fraction 0.91" in page(client)
    assert told is not agrees


def test_the_proof_is_told(client):
    text = page(client)
    assert "worth it" in text and "the placement is in effect" in text
    assert "Answers: same" in text
    assert "2 rebalances, 0.18 s stopped in all" in text
    assert "0.970 after the last; its mean over all passes, 0.950 in decode." in text
    assert "+6.4 %" in text and "+4.4 % to +8.4 %" in text


def test_simulated_results_are_marked_everywhere(client):
    assert 'role="note"' in page(client)
    for role in figures(client).values():
        drawn = [*role.pop("over_time").values(), *role.values()]
        assert all(figure["layout"]["title"]["text"].startswith("<b>SIMULATED</b>") for figure in drawn)


def test_charts_show_what_was_recorded(client):
    report = experts_factory.reports()[0]
    shown = figures(client)[report.role]
    assert len(report.layers) == 58 and report.layers[0] == 3, "dense layers are left out, the others keep their number"
    assert shown["heat"]["data"][0]["y"] == [str(layer) for layer in report.layers]
    assert [len(row) for row in shown["heat"]["data"][0]["z"]] == [256] * 58
    assert shown["over_time"].keys() == {str(layer) for layer in report.over_time}
    before, after, best = (trace["y"] for trace in shown["layers"]["data"])
    assert all(b < a <= c for b, a, c in zip(before, after, best, strict=True))
    slots = shown["slots"]["data"][0]
    assert (slots["x"], slots["y"]) == (["EP 8", "EP 16", "EP 32", "EP 64"], [32, 16, 8, 4])
    medians = shown["groups"]["data"][0]["y"]
    assert medians == sorted(medians), "wider expert parallelism makes groups larger"


def test_an_aggregated_workers_phases_are_shown_beside_it(client, sqlite_store, artefacts):
    factory.seed(sqlite_store, cycle_id="aggregated")
    spec = experts_factory.aggregated_spec()
    found = role_report(
        spec, spec.worker("aggregated"), experts_factory.aggregated_recording(), experts_factory.WORKLOAD
    )
    artefacts.put_json(found.model_dump(mode="json"), "cycles", "aggregated", "experts", "aggregated.json")
    text = page(client, "aggregated")
    assert re.findall(r'class="role" data-role="(\w+)"', text) == ["aggregated", "prefill", "decode"]
    for phase in found.phases:
        assert f"{phase.role.capitalize()} passes of the aggregated worker, EP 8" in text
        assert phase.own.text in text
    assert "made of all passes" in text
    assert figures(client, "aggregated").keys() == {"aggregated", "prefill", "decode"}
    roles = client.get("/api/cycles/aggregated/experts").json()["roles"]
    assert [role["gini"] for role in roles] == [found.gini, *(phase.gini for phase in found.phases)]


def test_the_document_is_there_as_json(client):
    found = client.get("/api/cycles/experts-1/experts").json()
    assert {role["role"] for role in found["roles"]} == {"prefill", "decode"}
    assert found["comparison"]["eplb"] == "static"
    assert "charts" not in found


def test_a_run_without_recording_says_so(client):
    assert "No expert distribution was recorded in this run" in page(client, "nothing-recorded")


def test_a_document_of_another_version_is_left_out_and_named(client, artefacts):
    artefacts.put_json({"levels": "other"}, "cycles", "nothing-recorded", "experts", "comparison.json")
    assert "comparison.json cannot be shown" in page(client, "nothing-recorded")


def test_an_unknown_cycle_is_not_found(client):
    answer = client.get("/cycles/none/experts")
    assert answer.status_code == 404 and 'href="../../static/page.css"' in answer.text
    assert client.get("/api/cycles/none/experts").json()["detail"].startswith("There is no cycle")


def test_the_cycles_page_links_to_it_where_it_is(client, sqlite_store):
    assert "experts-1/experts" in client.get("/cycles/experts-1").text
    without = TestClient(create_app(lambda: sqlite_store, []))
    assert "experts-1/experts" not in without.get("/cycles/experts-1").text
    assert without.get("/cycles/experts-1/experts").status_code == 404


def test_a_proof_without_a_comparison_is_shown_also_as_earlier_versions_stored_it(sqlite_store, tmp_path):
    kept = Artefacts(tmp_path)
    proof = experts_factory.comparison().proofs["decode"].model_dump(mode="json", exclude_none=True)
    keep_proofs(kept, "new", experts_factory.comparison().proofs)
    earlier = {"before": "balancedness_in_order", "predicted": "balancedness_predicted"}
    earlier |= {"measured": "balancedness_recorded"}
    document = {earlier.get(key, key): value for key, value in proof.items()}
    kept.put_json({"decode": {**document, "correlation": 0.999}}, "cycles", "old", "proof.json")
    for cycle_id in ("new", "old"):
        factory.seed(sqlite_store, cycle_id=cycle_id)
        text = page(TestClient(create_app(lambda: sqlite_store, [], lambda: kept)), cycle_id)
        assert "Does the placement take effect?" in text and "the placement is in effect" in text
        assert "Balance 0.800 before, 0.999 predicted, 0.985 measured." in text
        assert "cannot be shown" not in text
