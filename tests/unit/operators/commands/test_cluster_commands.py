"""``wideloop rbac`` and ``wideloop preflight`` as a person calls them."""

from __future__ import annotations

from collections.abc import Iterator
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
    assert "GiB per NVIDIA H200" in _row(large.stdout, "decode memory")[2]


def _row(table: str, check: str) -> list[str]:
    """Check, state, finding and what to do, as far as the first line of a row has them."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if "|" in line]
    return next(row for row in rows if row[0] == check)


@pytest.fixture
def permissive(run: CliRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[CliRunner]:
    """The command before a cluster that lets us do everything and shows nothing."""
    script = Script(otherwise=refusal(403, "Forbidden"))
    script.on("GET", "/version", answer(200, {"gitVersion": "v1.34.0"}))
    reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    script.on("POST", reviews, answer(201, {"status": {"allowed": True}}))
    script.on("POST", "/apis/nvidia.com/v1beta1/namespaces/team/dynamographdeployments", answer(201, {}))
    monkeypatch.setenv("WIDELOOP_CLUSTER__NAMESPACE", "team")
    monkeypatch.setenv("WIDELOOP_CLUSTER__ENGINE_IMAGE", "127.0.0.1:9/engine:1.6.1")
    monkeypatch.setenv("WIDELOOP_CLUSTER__CLIENT_IMAGE", "127.0.0.1:9/client:1")
    with serve(script) as port:
        monkeypatch.setenv("WIDELOOP_KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", port)))
        settings.cache_clear()
        yield run


def test_preflight_takes_the_parameters_of_a_cycle(permissive: CliRunner, tmp_path: Path) -> None:
    """EP 72 needs 32 redundant experts, which no option of the command could say."""
    arguments = ["preflight", "--model", "DeepSeek-R1", "--hardware", "h100-104"]
    without = permissive.invoke(app, arguments)
    assert _row(without.stdout, "engine")[1] == "error"
    by_option = permissive.invoke(app, [*arguments, "--set", "redundant_experts=32"])
    assert by_option.exit_code == 0, by_option.output
    assert _row(by_option.stdout, "decode memory")[1] == "ok"
    request = tmp_path / "request.json"
    request.write_text('{"model": "DeepSeek-R1", "hardware": "h100-104", "redundant_experts": 32, "concurrency": [64]}')
    assert permissive.invoke(app, ["preflight", str(request)]).exit_code == 0


def test_preflight_shows_the_profile_in_words(permissive: CliRunner) -> None:
    done = permissive.invoke(app, ["preflight", "--model", "DeepSeek-R1", "--hardware", "h200-16"])
    assert _row(done.stdout, "profile")[2].startswith("16 x H200 141 GB, 2 nodes of 8")
    assert "smallest recommended profile" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "redundant_expert=32"], "Did you mean 'redundant_experts'"),
        (["--set", "redundant_experts"], "is no assignment"),
        (["--set", "redundant_experts=many"], "redundant_experts = 'many'"),
        (["--create", "everything"], "create"),
        (["/no/such.json"], "cannot be read as JSON"),
    ],
)
def test_a_wrong_parameter_is_refused_as_in_the_form(run: CliRunner, arguments: list[str], message: str) -> None:
    done = run.invoke(app, ["preflight", *arguments])
    assert done.exit_code == 2
    assert message in done.stderr
