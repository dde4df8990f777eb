"""``wideloop rbac`` and ``wideloop preflight`` as a person calls them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner
from wideloop.manifests.kubernetes import dynamo, rbac
from wideloop.operators.commands.cli import app
from wideloop.operators.settings import settings

from tests.unit.operators.targets.kubernetes.scripted_api import Script, answer, refusal, serve, write_kubeconfig


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("WIDELOOP_CLUSTER__HF_TOKEN_SECRET", "my-token")
    monkeypatch.setenv("WIDELOOP_KUBECONFIG", "/nowhere/kubeconfig")
    settings.cache_clear()
    yield CliRunner()
    settings.cache_clear()


def test_rbac_prints_what_kubectl_applies(run: CliRunner) -> None:
    done = run.invoke(app, ["rbac", "--namespace", "team"])
    assert done.exit_code == 0
    assert list(yaml.safe_load_all(done.stdout)) == rbac.documents("team", ["my-token"], dynamo.grants())


def test_preflight_without_a_kubeconfig_says_which_and_what_works(run: CliRunner) -> None:
    done = run.invoke(app, ["preflight"])
    assert done.exit_code == 2
    assert "WIDELOOP_KUBECONFIG = '/nowhere/kubeconfig': there is no such kubeconfig" in done.stderr


def test_preflight_refuses_a_model_that_the_gpus_do_not_hold(
    run: CliRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A cluster that lets us do everything and shows nothing: what is refused is refused for memory."""
    script = Script(otherwise=refusal(403, "Forbidden"))
    script.on("GET", "/version", answer(200, {"gitVersion": "v1.34.0"}))
    reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    script.on("POST", reviews, answer(201, {"status": {"allowed": True}}))
    monkeypatch.setenv("WIDELOOP_CLUSTER__ENGINE_IMAGE", "127.0.0.1:9/engine:1.6.1")
    monkeypatch.setenv("WIDELOOP_CLUSTER__CLIENT_IMAGE", "127.0.0.1:9/client:1")
    with serve(script) as port:
        monkeypatch.setenv("WIDELOOP_KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", port)))
        settings.cache_clear()
        small = run.invoke(app, ["preflight", "--model", "DeepSeek-R1", "--hardware", "h100-8"])
        large = run.invoke(app, ["preflight", "--model", "DeepSeek-R1", "--hardware", "h200-32"])
    assert small.exit_code == 1, small.output
    assert _row(small.stdout, "decode memory")[1] == "error"
    assert "16 such GPUs per decode worker would hold it" in small.stdout
    assert _row(large.stdout, "decode memory")[1] == "ok"
    assert "GiB of 138.3 GiB per NVIDIA H200" in _row(large.stdout, "decode memory")[2]


def _row(table: str, check: str) -> list[str]:
    """Check, state, finding and what to do, as far as the first line of a row has them."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if "|" in line]
    return next(row for row in rows if row[0] == check)
