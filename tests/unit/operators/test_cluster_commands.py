"""``wideloop rbac`` and ``wideloop preflight`` as a person calls them."""

from __future__ import annotations

import pytest
import yaml
from typer.testing import CliRunner

from manifests.kubernetes import rbac
from operators.demo.cli import app
from operators.settings import settings


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
    assert list(yaml.safe_load_all(done.stdout)) == rbac.documents("team", ["my-token"])


def test_preflight_without_a_kubeconfig_says_which_and_what_works(run: CliRunner) -> None:
    done = run.invoke(app, ["preflight"])
    assert done.exit_code == 2
    assert "WIDELOOP_KUBECONFIG = '/nowhere/kubeconfig': there is no such kubeconfig" in done.stderr
