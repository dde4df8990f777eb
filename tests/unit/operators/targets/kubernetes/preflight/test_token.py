"""A token that ends while deployments are up locks their owner out of the GPUs."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.preflight.access import check_access

from tests.unit.operators.targets.kubernetes.scripted_api import Script, answer, serve, write_kubeconfig


def ending_in(hours: int) -> str:
    """A token that ends in so many hours and half a minute, which the test may take."""
    return jwt({"exp": (datetime.now(UTC) + timedelta(hours=hours, seconds=30)).timestamp()})


def jwt(content: object) -> str:
    """A token as an API server signs them, with a signature of nobody's."""
    parts = [json.dumps({"alg": "RS256"}), json.dumps(content), "signature"]
    return ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts)


@pytest.fixture
def api_with(tmp_path: Path):
    script = Script()
    script.on("GET", "/version", answer(200, {"gitVersion": "v1.36.2"}))
    reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    script.on("POST", reviews, answer(201, {"status": {"allowed": True}}))
    with serve(script) as port:

        def made(token: str) -> Api:
            file = write_kubeconfig(tmp_path / "kubeconfig", port)
            document = yaml.safe_load(file.read_text())
            document["users"] = [{**user, "user": {"token": token}} for user in document["users"]]
            file.write_text(yaml.safe_dump(document))
            return Api(file)

        yield made


def test_a_token_that_a_cycle_may_outlive_is_a_warning_with_its_end(api_with):
    result = check_access(api_with(ending_in(2)))
    assert result.state == "warning"
    assert "ends in 2.0 h" in result.found
    assert "keep their GPUs" in result.findings[0].rule


@pytest.mark.parametrize("hours", [13, 24, 24 * 365])
def test_a_longer_one_is_shown(api_with, hours: int):
    result = check_access(api_with(ending_in(hours)))
    assert result.state == "ok"
    assert f"ends in {hours:.1f} h" in result.found


SILENT = ["opaque", "a.b.c", "..", jwt({"exp": "soon"}), jwt({"exp": 1e300}), jwt([]), jwt({})]


@pytest.mark.parametrize("token", SILENT)
def test_a_token_that_says_nothing_is_no_finding(api_with, token: str):
    result = check_access(api_with(token))
    assert (result.state, "ends" in result.found) == ("ok", False)
