"""Variables that are settings, and what is said of those that are none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from wideloop.manifests.errors import Refused
from wideloop.operators.settings import make_private, settings


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("WIDELOOP_CLUSTER__ENGINE_ENV", '{"A": "b"}', "WIDELOOP_CLUSTER__ENGINE_ENV = .*Did you mean 'engine_"),
        ("WIDELOOP_CLUSTER__RDMA_RESSOURCE", "rdma/x", "Did you mean 'rdma_resource'"),
        ("WIDELOOP_CLUSTER__GPU_NODE_SELECTORS", "{}", "Did you mean 'gpu_node_selector'"),
        ("WIDELOOP_CLUSTER", '{"namespaces": "x"}', "Did you mean 'namespace'"),
        ("WIDELOOP_CLUSTERS__NAMESPACE", "x", "WIDELOOP_CLUSTERS__NAMESPACE"),
        ("WIDELOOP_RESULT_URL", "sqlite://", "Did you mean 'WIDELOOP_RESULTS_URL'"),
        ("WIDELOOP_KUBE_CONFIG", "/x", "Did you mean 'WIDELOOP_KUBECONFIG'"),
        ("WIDELOOP_CLUSTER__RDMA_PER_GPU", "many", "WIDELOOP_CLUSTER__RDMA_PER_GPU = 'many': Input should be"),
        ("WIDELOOP_CLUSTER__WORKER_ENV", "NCCL_DEBUG=INFO", "written as JSON"),
        ("WIDELOOP_CLUSTER__WORKER_VOLUMES", '[{"name": "x"}]', "a volume has a name, a mountPath and one source"),
        ("WIDELOOP_CLUSTER__API_VERSION", "v1", "WIDELOOP_CLUSTER__API_VERSION = 'v1'"),
    ],
)
def test_a_variable_without_effect_is_refused_with_what_works(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(Refused, match=message):
        settings()


@pytest.mark.parametrize(
    "variable", ["WIDELOOP_RESULT", "WIDELOOP_FILES", "WIDELOOP_EXPERT_PAIRS", "WIDELOOP_OWN_THING", "WIDELOOP_CLONE"]
)
def test_variables_that_are_nobodys_misspelt_setting_pass(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "x")
    settings()


def test_settings_of_the_cluster_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIDELOOP_CLUSTER__WORKER_ENV", '{"NCCL_NVLS_ENABLE": "0"}')
    monkeypatch.setenv("WIDELOOP_CLUSTER__KUEUE_QUEUE", "gpus")
    monkeypatch.setenv("wideloop_cluster__host_network", "true")
    cluster = settings().cluster
    assert (cluster.worker_env, cluster.kueue_queue, cluster.host_network) == ({"NCCL_NVLS_ENABLE": "0"}, "gpus", True)


def test_nobody_else_gets_into_the_home(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    make_private(home)
    home.chmod(0o755)
    (home / "results.db").write_text("kept")
    make_private(home)
    assert home.stat().st_mode & 0o777 == 0o700
    assert (home / "results.db").read_text() == "kept"
