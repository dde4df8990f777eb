"""Images on a real cluster: our recipes built in a Job, pushed to a real registry, found again, smoke-tested.

BuildKit itself is not to be had here; buildah stands in for it inside the Job, which is ours to the letter.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from wideloop.manifests.clients.aiperf import Aiperf
from wideloop.manifests.engines import get_engine
from wideloop.manifests.errors import Refused, TargetError
from wideloop.manifests.kubernetes.labels import selector
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.image import prepare_image

from tests import registry
from tests.cluster.agent import NodeAgent
from tests.cluster.cluster import Cluster
from tests.cluster.conftest import unavailable
from tests.cluster.tasks import wait_for_no_tasks

pytestmark = pytest.mark.cluster

SIMULATED = get_engine("simulated")


@pytest.fixture(scope="module")
def images(agent: NodeAgent, tmp_path_factory: pytest.TempPathFactory) -> Iterator[registry.Registry]:
    """A registry that asks for a login and that pods reach, with an image to start from."""
    if absent := registry.missing():
        unavailable(f"no {', '.join(absent)}: apt-get install buildah docker-registry skopeo busybox-static")
    agent.images.known["moby/buildkit"] = Path(__file__).with_name("images")
    folder = tmp_path_factory.mktemp("registry")
    with registry.serving(folder, agent.network.gateway, login=True) as one:
        one.push(registry.python_image(folder / "base"), "base:1")
        yield one


@pytest.fixture
def options(
    images: registry.Registry, namespace: str, cluster: Cluster, add_nodes: Callable[[str], list[str]]
) -> ClusterOptions:
    add_nodes("h200-8")
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "login"},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": base64.b64encode(images.docker_config.encode()).decode()},
    }
    cluster.apply([secret], namespace)
    return ClusterOptions(
        namespace=namespace,
        engine_image=f"{images.host}/{namespace}/simulated:1.6.1",
        client_image=f"{images.host}/{namespace}/benchmark:1",
        build=True,
        build_args={
            "PYTHON_IMAGE": f"{images.host}/base:1",
            "SGLANG_IMAGE": f"{images.host}/base",
            "SGLANG_IMAGE_TAG": "1",
            "DYNAMO_REF": "v1.7.0-rc1",
            "DEEPEP_REF": "abc123",
        },
        registry_secret="login",
        plain_http_registries=(images.host,),
    )


@pytest.fixture
def api(cluster: Cluster) -> Api:
    return Api(cluster.kubeconfig)


def left(cluster: Cluster, namespace: str) -> list[str]:
    wait_for_no_tasks(cluster, namespace)
    found = cluster.kubectl("get", "jobs,pods,configmaps", "-n", namespace, "-l", selector(), "-o", "name")
    return found.split()


def test_both_images_are_built_once_and_their_digests_are_the_registrys(
    api: Api, options: ClusterOptions, images: registry.Registry, cluster: Cluster, tmp_path: Path
) -> None:
    said: list[str] = []
    made = prepare_image(api, options, SIMULATED, Aiperf(), say=said.append)
    assert images.inspect(options.engine_image)["Digest"] == made.digest
    assert set(made.versions) == {*SIMULATED.imports, "arch"}
    assert made.versions["dynamo.frontend"] == "1.6.1"
    assert not made.reused
    # The build's own words, live in ours.
    assert any("STEP" in line and "requirements.txt" in line for line in said), said
    files = images.extract(options.engine_image, tmp_path)
    assert (files / "opt/wideloop/project/wideloop/tuning/simulator/worker.py").is_file()
    assert (files / "calls").read_text().startswith("-m pip install --no-cache-dir --no-deps -r /opt/wideloop/")
    assert left(cluster, options.namespace) == ["configmap/wideloop-images"]

    before = api.requests
    again = prepare_image(api, options, SIMULATED, Aiperf(), say=said.append)
    assert again == made.model_copy(update={"reused": True})
    assert api.requests - before < 10, "nothing runs for what was built and verified before"


def test_other_inputs_are_another_image(
    api: Api, options: ClusterOptions, images: registry.Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wideloop.manifests.kubernetes import image_build

    first = image_build.recipe("dynamo-sglang", options.build_args)
    other = image_build.recipe("dynamo-sglang", {**options.build_args, "DYNAMO_REF": "1.6.1"})
    client = image_build.recipe("benchmark", options.build_args)
    assert len({first.inputs, other.inputs, client.inputs}) == 3
    assert first.inputs == image_build.recipe("dynamo-sglang", options.build_args).inputs
    assert client.build_args == {"PYTHON_IMAGE": options.build_args["PYTHON_IMAGE"]}
    with pytest.raises(Refused, match="Did you mean 'DYNAMO_REF'"):
        image_build.recipe("dynamo-sglang", {"DYNAMO_REV": "1.6.1"})


@pytest.mark.parametrize(
    ("args", "calls"),
    [
        (
            {},
            [
                "ai-dynamo @ https://github.com/ai-dynamo/dynamo/archive/v1.7.0-rc1.tar.gz ai-dynamo-runtime==1.6.1",
                "deep_ep @ https://github.com/deepseek-ai/DeepEP/archive/abc123.tar.gz",
            ],
        ),
        ({"DYNAMO_REF": "1.6.0", "DEEPEP_REF": ""}, ["ai-dynamo==1.6.0 ai-dynamo-runtime==1.6.0"]),
    ],
    ids=["commits", "releases"],
)
def test_the_recipe_of_sglang_with_deepep(
    args: dict[str, str],
    calls: list[str],
    api: Api,
    options: ClusterOptions,
    images: registry.Registry,
    tmp_path: Path,
) -> None:
    """Its build; that what it installs imports needs a GPU's machine to show."""
    from wideloop.manifests.kubernetes import image_build
    from wideloop.operators.targets.kubernetes.job_run import run_to_end

    image = f"{images.host}/{options.namespace}/sglang:1.6.1"
    recipe = image_build.recipe("dynamo-sglang", {**options.build_args, **args})
    digest = run_to_end(api, image_build.documents(options, image, recipe), say=lambda _: None)
    assert images.inspect(image_build.inputs_tag(image, recipe))["Digest"] == digest
    found = (images.extract(image, tmp_path) / "calls").read_text().splitlines()
    installed = [call for call in found if "ai-dynamo" in call or "deep_ep" in call]
    assert len(installed) == len(calls)
    assert all(call.endswith(wanted) for call, wanted in zip(installed, calls, strict=True)), found


def test_an_image_that_lacks_an_import_is_not_verified(
    api: Api, options: ClusterOptions, images: registry.Registry, cluster: Cluster
) -> None:
    class Wants(type(SIMULATED)):  # type: ignore[misc]
        imports = ("dynamo.frontend", "deep_ep")

    with pytest.raises(TargetError, match="No module named 'deep_ep'"):
        prepare_image(api, options, Wants(), Aiperf(), say=lambda _: None)
    assert left(cluster, options.namespace) == ["configmap/wideloop-images"]


def test_an_image_that_was_built_elsewhere_is_found_by_its_digest_or_refused(
    api: Api, options: ClusterOptions, images: registry.Registry
) -> None:
    made = prepare_image(api, options, SIMULATED, Aiperf(), say=lambda _: None)
    given = options.model_copy(update={"build": False})
    verified = prepare_image(api, given, SIMULATED, Aiperf(), say=lambda _: None)
    assert verified == made.model_copy(update={"reused": True})
    by_digest = given.model_copy(update={"engine_image": f"{options.engine_image}@{made.digest}"})
    assert prepare_image(api, by_digest, SIMULATED, Aiperf(), say=lambda _: None).digest == made.digest
    absent = given.model_copy(update={"engine_image": f"{images.host}/simulated:0.0.1"})
    with pytest.raises(Refused, match="is not in its registry"):
        prepare_image(api, absent, SIMULATED, Aiperf(), say=lambda _: None)
    nowhere = given.model_copy(update={"engine_image": "127.0.0.1:9/simulated:1.6.1"})
    with pytest.raises(Refused, match=r"has no digest, and the registry 127.0.0.1:9 does not answer"):
        prepare_image(api, nowhere, SIMULATED, Aiperf(), say=lambda _: None)


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        (None, "there is no login for"),
        ({"auths": {"HOST": {"auth": base64.b64encode(b"builder:wrong").decode()}}}, "is not accepted"),
    ],
    ids=["none", "wrong"],
)
def test_a_registry_that_refuses_our_login(
    secret: Any, said: str, api: Api, options: ClusterOptions, images: registry.Registry, cluster: Cluster
) -> None:
    import json

    if secret is None:
        without = options.model_copy(update={"registry_secret": None})
    else:
        text = json.dumps(secret).replace("HOST", images.host)
        patch = {"data": {".dockerconfigjson": base64.b64encode(text.encode()).decode()}}
        cluster.kubectl("patch", "secret", "login", "-n", options.namespace, "-p", json.dumps(patch))
        without = options
    with pytest.raises(TargetError, match=f"refused .* with 401: .*{said}"):
        prepare_image(api, without, SIMULATED, Aiperf(), say=lambda _: None)
    assert left(cluster, options.namespace) == []


def test_a_registry_that_takes_no_push(
    api: Api, options: ClusterOptions, agent: NodeAgent, cluster: Cluster, tmp_path: Path, images: registry.Registry
) -> None:
    with registry.serving(tmp_path / "closed", agent.network.gateway, read_only=True) as closed:
        there = {"client_image": f"{closed.host}/benchmark:1", "plain_http_registries": (closed.host, images.host)}
        with pytest.raises(TargetError) as failed:
            prepare_image(api, options.model_copy(update=there), SIMULATED, Aiperf(), say=lambda _: None)
    assert "wideloop-image-benchmark" in str(failed.value)
    assert "buildah push ended with" in str(failed.value)
    assert left(cluster, options.namespace) == []


def test_a_smoke_test_that_finds_no_gpu_says_so(
    api: Api, options: ClusterOptions, images: registry.Registry, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wideloop.operators.targets.kubernetes import pod_start

    class Real(type(SIMULATED)):  # type: ignore[misc]
        simulated = False

    monkeypatch.setattr(pod_start, "GRACE_S", 2.0)
    names = cluster.kubectl("get", "nodes", "-o", "name").split()
    cluster.kubectl("cordon", *[name.removeprefix("node/") for name in names])
    nobody = options.model_copy(update={"gpu_node_selector": {"pool": "gpus"}})
    try:
        with pytest.raises(TargetError, match="unschedulable"):
            prepare_image(api, nobody, Real(), Aiperf(), say=lambda _: None)
    finally:
        cluster.kubectl("uncordon", *[name.removeprefix("node/") for name in names])
    assert left(cluster, options.namespace) in ([], ["configmap/wideloop-images"])
