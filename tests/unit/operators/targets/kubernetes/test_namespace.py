"""Namespace and secret of the hub's token, made on request and never over somebody else's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wideloop.manifests.errors import Refused, TargetError
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.namespace import make_hub_secret, make_namespace

from tests.unit.operators.targets.kubernetes.scripted_api import Script, answer, refusal, serve, write_kubeconfig

OPTIONS = ClusterOptions(namespace="ns", hf_token_secret="hub")
_SECRET = "/api/v1/namespaces/ns/secrets/hub"


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def api(script: Script, tmp_path: Path) -> Iterator[Api]:
    with serve(script) as port:
        yield Api(write_kubeconfig(tmp_path / "kubeconfig", port))


def secret(**labels: str) -> Any:
    return answer(200, {"kind": "Secret", "metadata": {"name": "hub", "namespace": "ns", "uid": "u", "labels": labels}})


def test_a_missing_namespace_is_made_and_one_that_exists_is_left(script: Script, api: Api) -> None:
    script.on("GET", "/api/v1/namespaces/ns", refusal(404, "NotFound"), answer(200, {"metadata": {"name": "ns"}}))
    script.on("POST", "/api/v1/namespaces", answer(201, {"metadata": {"name": "ns"}}))
    assert make_namespace(api, OPTIONS) == "made namespace ns"
    assert make_namespace(api, OPTIONS) == "namespace ns exists"


def test_a_namespace_that_may_not_be_made_is_told_with_the_command(script: Script, api: Api) -> None:
    script.on("GET", "/api/v1/namespaces/ns", refusal(403, "Forbidden"))
    script.on("POST", "/api/v1/namespaces", refusal(403, "Forbidden"))
    with pytest.raises(TargetError, match="kubectl create namespace ns"):
        make_namespace(api, OPTIONS)


def test_a_secret_is_made_with_the_token_under_its_key(script: Script, api: Api) -> None:
    script.on("GET", _SECRET, refusal(404, "NotFound"))
    script.on("POST", "/api/v1/namespaces/ns/secrets", answer(201, {"metadata": {"name": "hub"}}))
    assert make_hub_secret(api, OPTIONS, "hf_token") == "made secret hub in namespace ns, with the token under HF_TOKEN"


def test_somebody_elses_secret_stays_as_it_is(script: Script, api: Api) -> None:
    script.on("GET", _SECRET, secret())
    with pytest.raises(TargetError, match="is not ours"):
        make_hub_secret(api, OPTIONS, "hf_token")


def test_a_refused_secret_does_not_show_the_token(script: Script, api: Api) -> None:
    script.on("GET", _SECRET, refusal(404, "NotFound"))
    script.on("POST", "/api/v1/namespaces/ns/secrets", refusal(403, "Forbidden", "no: aGZfdG9rZW4= hf_token"))
    with pytest.raises(TargetError, match="kubectl -n ns create secret") as caught:
        make_hub_secret(api, OPTIONS, "hf_token")
    assert "hf_token" not in str(caught.value).replace("hf_token_secret", "")


@pytest.mark.parametrize(
    ("options", "token", "message"),
    [
        (ClusterOptions(namespace="ns"), "hf_token", "WIDELOOP_CLUSTER__HF_TOKEN_SECRET"),
        (OPTIONS, None, "WIDELOOP_HF_CONN_ID"),
        (OPTIONS, "", "WIDELOOP_HF_CONN_ID"),
    ],
)
def test_what_is_missing_for_a_secret_is_said(
    api: Api, options: ClusterOptions, token: str | None, message: str
) -> None:
    with pytest.raises(Refused, match=message):
        make_hub_secret(api, options, token)
