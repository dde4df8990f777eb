"""The REST client: log-in, log-in again, and errors in Airflow's own words."""

import json
from collections.abc import Callable

import httpx
import pytest
from wideloop.operators.commands.demo import api as module
from wideloop.operators.commands.demo.api import AirflowApi
from wideloop.operators.commands.demo.errors import DemoError

Answer = Callable[[httpx.Request], httpx.Response]


def api(answer: Answer) -> AirflowApi:
    return AirflowApi("http://airflow", "admin", "secret", httpx.MockTransport(answer))


def with_login(answer: Answer) -> tuple[Answer, list[str]]:
    """An Airflow whose newest token is the only good one, and the tokens it gave."""
    tokens: list[str] = []

    def respond(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/auth/token":
            assert json.loads(request.content) == {"username": "admin", "password": "secret"}
            tokens.append(f"token{len(tokens)}")
            return httpx.Response(201, json={"access_token": tokens[-1]})
        if not tokens or request.headers.get("Authorization") != f"Bearer {tokens[-1]}":
            return httpx.Response(401, json={"detail": "Not authenticated"})
        return answer(request)

    return respond, tokens


def test_it_logs_in_when_needed_and_again_when_the_token_expired() -> None:
    answer, tokens = with_login(lambda _: httpx.Response(200, json={"state": "running"}))
    client = api(answer)
    assert client.run_state("d", "r") == "running"
    assert client.run_state("d", "r") == "running"
    assert tokens == ["token0"]
    tokens.append("another")
    assert client.run_state("d", "r") == "running"


def test_a_refusal_carries_airflows_reason() -> None:
    answer, _ = with_login(lambda _: httpx.Response(422, json={"detail": "trials: 0 is less than the minimum of 1"}))
    with pytest.raises(DemoError, match="422 trials: 0 is less than the minimum"):
        api(answer).trigger("wideep_cycle", {"trials": 0})


@pytest.mark.parametrize(("method", "sent"), [("unpause", 3), ("trigger", 1)])
def test_a_server_error_is_asked_for_again_where_that_does_no_harm(
    method: str, sent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAUSES_S", (0.0, 0.0, 0.0))
    requests: list[str] = []

    def locked(request: httpx.Request) -> httpx.Response:
        requests.append(request.method)
        return httpx.Response(500 if len(requests) < 3 else 200, json={"detail": "database is locked"})

    answer, _ = with_login(locked)
    client = api(answer)
    if method == "unpause":
        client.unpause("wideep_trial")
    else:
        with pytest.raises(DemoError, match="500 database is locked"):
            client.trigger("wideep_trial", {})
    assert len(requests) == sent


def test_a_server_that_never_recovers_is_a_demo_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSES_S", (0.0,))
    answer, _ = with_login(lambda _: httpx.Response(500, json={"detail": "database is locked"}))
    with pytest.raises(DemoError, match="500 database is locked"):
        api(answer).run_state("d", "r")


def test_a_server_that_is_gone_is_a_demo_error() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused", request=request)

    with pytest.raises(DemoError, match="does not answer GET"):
        api(refuse).run_state("d", "r")
    assert not api(refuse).healthy()


@pytest.mark.parametrize(("triggerer", "healthy"), [("healthy", True), ("unhealthy", False), (None, False)])
def test_healthy_means_every_component(triggerer: str | None, healthy: bool) -> None:
    parts = {name: {"status": "healthy"} for name in ("metadatabase", "scheduler", "dag_processor")}
    body = {**parts, "triggerer": {"status": triggerer}}
    assert api(lambda _: httpx.Response(200, json=body)).healthy() is healthy


@pytest.mark.parametrize(("exists", "method"), [(False, "POST"), (True, "PATCH")])
def test_a_pool_is_created_or_changed(exists: bool, method: str) -> None:
    sent: list[tuple[str, dict[str, object]]] = []

    def pools(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200 if exists else 404, json={})
        sent.append((request.method, json.loads(request.content)))
        return httpx.Response(200, json={})

    answer, _ = with_login(pools)
    api(answer).set_pool("wideep_gpu", 1, "why")
    [(used, body)] = sent
    assert used == method
    assert body["slots"] == 1
    assert body["include_deferred"] is True


def test_unfinished_runs_come_with_what_they_were_asked_for() -> None:
    runs = [{"dag_run_id": "a", "conf": {"trials": 2}}, {"dag_run_id": "b", "conf": None}]

    def listed(request: httpx.Request) -> httpx.Response:
        assert request.url.params.get_list("state") == ["queued", "running"]
        return httpx.Response(200, json={"dag_runs": runs})

    answer, _ = with_login(listed)
    assert api(answer).unfinished_runs("wideep_cycle") == [("a", {"trials": 2}), ("b", {})]
