from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wideloop.manifests.errors import ApiRefused, ApiUnreachable, Refused, TargetError
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.objects import apply, delete

from tests.unit.operators.targets.kubernetes.scripted_api import (
    Reply,
    Script,
    answer,
    hang_up,
    refusal,
    serve,
    write_kubeconfig,
)

THING = "/api/v1/namespaces/ns/configmaps/a"
THINGS = "/api/v1/namespaces/ns/configmaps"
DOCUMENT = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "a", "namespace": "ns", "labels": {"app.kubernetes.io/managed-by": "wideloop"}},
}
OURS = DOCUMENT | {"metadata": DOCUMENT["metadata"] | {"uid": "1"}}  # type: ignore[operator]
OK = answer(200, OURS)


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def api(script: Script, tmp_path: Path) -> Iterator[Api]:
    with serve(script) as port:
        yield Api(write_kubeconfig(tmp_path / "kubeconfig", port), outage_s=5)


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(hang_up, id="connection dropped"),
        pytest.param(refusal(503, "ServiceUnavailable", "apiserver is shutting down"), id="shutting down"),
        pytest.param(refusal(429, "TooManyRequests"), id="busy"),
        pytest.param(answer(404, b"404 page not found"), id="kind not served yet"),
        pytest.param(refusal(500, "InternalError", "etcdserver: leader changed"), id="etcd"),
    ],
)
def test_a_passing_trouble_costs_another_try(api: Api, script: Script, trouble: object) -> None:
    script.on("GET", THING, trouble, OK)
    assert api.get(THING) == OURS
    assert script.times(THING) == 2


def test_a_server_that_comes_back_is_waited_for(script: Script, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    api = Api(write_kubeconfig(tmp_path / "kubeconfig", port), outage_s=20)
    script.on("GET", THING, OK)
    found = []
    asking = threading.Thread(target=lambda: found.append(api.get(THING)))
    asking.start()
    time.sleep(0.3)
    with serve(script, port):
        asking.join(timeout=20)
    assert found == [OURS]


def test_one_that_stays_away_is_named_with_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        path = write_kubeconfig(tmp_path / "kubeconfig", free.getsockname()[1])
        with pytest.raises(ApiUnreachable, match=r"context x of .*kubeconfig.*refused.*WIDELOOP_KUBECONFIG"):
            Api(path, outage_s=0.1).get(THING)


def test_what_does_not_exist_is_none_at_once(api: Api, script: Script) -> None:
    assert api.get(THING) is None
    assert script.times(THING) == 1


def test_a_token_renewed_on_disk_is_used(script: Script, tmp_path: Path) -> None:
    with serve(script) as port:
        path = write_kubeconfig(tmp_path / "kubeconfig", port, "old")
        api = Api(path)
        script.on("GET", THING, OK, refusal(401, "Unauthorized"), OK)
        api.get(THING)
        write_kubeconfig(path, port, "new")
        assert api.get(THING) == OURS
    assert script.tokens == ["Bearer old", "Bearer old", "Bearer new"]


def test_credentials_that_have_expired_are_said_to_be(api: Api, script: Script) -> None:
    script.on("GET", THING, refusal(401, "Unauthorized", "Unauthorized"))
    with pytest.raises(ApiRefused, match=r"401 Unauthorized.*log in again"):
        api.get(THING)
    assert script.times(THING) == 2


@pytest.mark.parametrize(
    ("kubeconfig", "field"),
    [
        (None, "there is no such kubeconfig"),
        ("clusters: [", "cannot be used as a kubeconfig"),
        ("{}", "cannot be used as a kubeconfig"),
        ("apiVersion: v1\ncurrent-context: x\n", "cannot be used as a kubeconfig"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_is_refused(tmp_path: Path, kubeconfig: str | None, field: str) -> None:
    path = tmp_path / "kubeconfig"
    if kubeconfig is not None:
        path.write_text(kubeconfig)
    with pytest.raises(Refused, match=field) as refused:
        Api(path).get(THING)
    assert refused.value.findings[0].field == "WIDELOOP_KUBECONFIG"


def test_an_unknown_context_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"WIDELOOP_KUBE_CONTEXT = 'y'.*Known: x"):
        Api(write_kubeconfig(tmp_path / "kubeconfig", 1), "y").get(THING)


def test_what_goes_through_to_a_pod_is_not_sent_twice(api: Api, script: Script) -> None:
    script.on("POST", "/proxy/start", hang_up)
    with (
        pytest.raises(TargetError, match="was not answered"),
        api.stream("POST", "/proxy/start", timeout_s=5, proxied=True),
    ):
        pass
    assert script.times("/proxy/start") == 1


def test_an_answer_that_breaks_off_is_an_error(api: Api, script: Script) -> None:
    script.on("GET", "/proxy/file", answer(200, b"half", **{"Content-Length": "8"}))
    with (
        pytest.raises(TargetError, match="broke off"),
        api.stream("GET", "/proxy/file", timeout_s=5, proxied=True) as found,
    ):
        found.read()


def test_lists_come_page_by_page(api: Api, script: Script) -> None:
    script.on("GET", THINGS, piece("ab", more="more"), piece("c"))
    assert api.list(THINGS) == (things("abc"), "7")


def things(names: str) -> list[dict[str, Any]]:
    return [{"metadata": {"name": name, "namespace": "ns"}} for name in names]


def piece(names: str, more: str = "") -> Reply:
    """A piece of a list of things."""
    metadata = {"resourceVersion": "7"} | ({"continue": more} if more else {})
    return answer(200, {"items": things(names), "metadata": metadata})


EXPIRED = refusal(410, "Expired", "The provided continue parameter is too old")


@pytest.mark.parametrize(
    ("replies", "names"),
    [
        ([piece("ab", "t"), EXPIRED, piece("abc")], "abc"),
        ([piece("ab", "t"), EXPIRED, piece("bx", "u"), EXPIRED, piece("xyz")], "abxyz"),
    ],
)
def test_a_list_that_expires_on_its_way_is_begun_anew_and_gives_nothing_twice(
    api: Api, script: Script, replies: list[Reply], names: str
) -> None:
    script.on("GET", THINGS, *replies)
    assert [thing["metadata"]["name"] for thing in api.list(THINGS)[0]] == list(names)


def test_a_list_that_expires_again_and_again_is_given_up(api: Api, script: Script) -> None:
    script.on("GET", THINGS, *[reply for _ in range(9) for reply in (piece("ab", "t"), EXPIRED)])
    with pytest.raises(ApiRefused, match="410"):
        api.list(THINGS)


@pytest.mark.parametrize("body", [b"<html>sign in</html>", b"", b'"a string"'])
def test_an_answer_of_something_in_front_of_the_api_server_is_told_as_such(
    api: Api, script: Script, body: bytes
) -> None:
    script.on("GET", THINGS, answer(200, body, **{"Content-Type": "text/html; charset=utf-8"}))
    with pytest.raises(ApiRefused, match=r"text/html of something in front of the API server.* Log in again"):
        api.list(THINGS)


def test_what_is_missing_is_made_and_what_is_ours_is_brought_up_to_date(api: Api, script: Script) -> None:
    script.on("POST", THINGS, OK)
    apply(api, DOCUMENT)
    script.on("GET", THING, OK)
    script.on("PATCH", THING, OK)
    apply(api, DOCUMENT)
    assert [method for method, _ in script.asked] == ["GET", "POST", "GET", "PATCH"]


def test_an_object_of_somebody_else_is_left_alone(api: Api, script: Script) -> None:
    script.on("GET", THING, answer(200, {"kind": "ConfigMap", "metadata": {"name": "a", "namespace": "ns"}}))
    with pytest.raises(TargetError, match=r"ConfigMap a in namespace ns exists and is not ours"):
        apply(api, DOCUMENT)
    assert [method for method, _ in script.asked] == ["GET"]


def test_an_object_that_somebody_makes_meanwhile_is_looked_at_again(api: Api, script: Script) -> None:
    foreign = answer(200, {"kind": "ConfigMap", "metadata": {"name": "a", "namespace": "ns"}})
    script.on("GET", THING, refusal(404, "NotFound"), foreign)
    script.on("POST", THINGS, refusal(409, "AlreadyExists"))
    with pytest.raises(TargetError, match="not ours"):
        apply(api, DOCUMENT)


def test_deleting_what_is_gone_or_has_been_replaced_is_no_error(api: Api, script: Script) -> None:
    assert not delete(api, THING)
    script.on("DELETE", THING, refusal(409, "Conflict", "precondition failed: UID"))
    assert not delete(api, THING, uid="1")


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_load_balancer_whose_server_stays_away_is_no_refusal(script: Script, tmp_path: Path, status: int) -> None:
    script.on("GET", THING, answer(status, b"<html>Bad Gateway</html>"))
    with serve(script) as port, pytest.raises(ApiUnreachable, match=f"HTTP {status}: .*Bad Gateway"):
        Api(write_kubeconfig(tmp_path / "kubeconfig", port), outage_s=0.3).get(THING)


def test_a_failure_that_is_about_the_request_is_one_in_the_end(script: Script, tmp_path: Path) -> None:
    script.on("GET", THING, refusal(500, "InternalError", "failed calling webhook"))
    with serve(script) as port, pytest.raises(ApiRefused, match="failed calling webhook"):
        Api(write_kubeconfig(tmp_path / "kubeconfig", port), outage_s=0.3).get(THING)


def test_a_pods_own_answer_says_nothing_of_the_api_server(api: Api, script: Script) -> None:
    script.on("GET", "/proxy/file", answer(503, b"starting"))
    with pytest.raises(ApiRefused, match="starting"), api.stream("GET", "/proxy/file", timeout_s=5, proxied=True):
        pass
