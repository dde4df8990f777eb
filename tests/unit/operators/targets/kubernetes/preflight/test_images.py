"""Which images are asked for before anything starts."""

from __future__ import annotations

import pytest
from wideloop.manifests.clients.aiperf import Aiperf
from wideloop.manifests.kubernetes import image_build
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.cluster import Cluster
from wideloop.operators.targets.kubernetes.preflight.sources import check_images
from wideloop.operators.targets.kubernetes.registry import Registry

from tests.unit.manifests.kubernetes.golden_cases import CASES, DIGEST
from tests.unit.operators.targets.kubernetes.cluster_objects import DYNAMO


@pytest.mark.parametrize("build", [False, True])
def test_they_are_those_that_pods_will_run(build: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ClusterOptions(namespace="ns", build=build, engine_image="r/engine:1", client_image="r/client:1")
    asked: list[str] = []

    def digest(self: Registry, image: str) -> str:
        asked.append(image)
        return DIGEST

    monkeypatch.setattr(Registry, "digest", digest)
    assert [check.state for check in check_images(Api(), options, CASES[0].spec(), Aiperf())] == ["ok", "ok"]
    assert asked == [f"r/engine:1@{DIGEST}", Cluster(None, None, options, DYNAMO).client_image("benchmark")]
    inputs = image_build.recipe(Aiperf.environment, {}).inputs
    assert asked[1] == (f"r/client:inputs-{inputs}" if build else "r/client:1")
