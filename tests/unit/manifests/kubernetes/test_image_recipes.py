"""What an image is made from, and the Job that makes it."""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
import tomllib

import pytest
from wideloop.manifests.errors import Refused
from wideloop.manifests.kubernetes import smoke_test
from wideloop.manifests.kubernetes.image_build import documents, inputs_tag, recipe
from wideloop.manifests.kubernetes.options import ClusterOptions

_MAX_CONFIG_MAP = 1024**2


def names(archive: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as found:
        return found.getnames()


@pytest.mark.parametrize("environment", ["simulated", "benchmark", "dynamo-sglang"])
def test_a_recipe_is_the_same_every_time_and_fits_a_config_map(environment: str) -> None:
    made = recipe(environment, {})
    assert made == recipe(environment, {})
    (job, files) = documents(ClusterOptions(), "host/x:1", made)
    assert len(json.dumps(files)) < _MAX_CONFIG_MAP
    assert len(job["metadata"]["name"]) <= 63


def test_what_runs_of_ours_in_the_image_is_in_its_context() -> None:
    assert "project/wideloop/tuning/simulator/worker.py" in names(recipe("simulated", {}).archive)
    assert names(recipe("benchmark", {}).archive) == ["Dockerfile", "requirements.txt"]
    assert names(recipe("dynamo-sglang", {}).archive) == ["Dockerfile", "dynamo_requirements.py"]


def test_only_arguments_that_a_dockerfile_takes_count() -> None:
    given = {"SGLANG_IMAGE_TAG": "v1", "PYTHON_IMAGE": "p"}
    assert recipe("dynamo-sglang", given).build_args == {"SGLANG_IMAGE_TAG": "v1"}
    assert recipe("dynamo-sglang", given).inputs == recipe("dynamo-sglang", {"SGLANG_IMAGE_TAG": "v1"}).inputs
    assert recipe("dynamo-sglang", given).inputs != recipe("dynamo-sglang", {}).inputs
    with pytest.raises(Refused, match="Did you mean 'SGLANG_IMAGE_TAG'"):
        recipe("simulated", {"SGLANG_IMAGE_TAGS": "v1"})
    with pytest.raises(Refused, match="Known: benchmark, dynamo-sglang, simulated"):
        recipe("vllm", {})


@pytest.mark.parametrize(
    ("image", "tag"),
    [
        ("host:5000/a/b:1.6.1", "host:5000/a/b:inputs-"),
        ("host:5000/a/b", "host:5000/a/b:inputs-"),
        ("host/b:1@sha256:00", "host/b:inputs-"),
    ],
)
def test_the_tag_of_the_inputs_is_beside_the_images(image: str, tag: str) -> None:
    made = recipe("benchmark", {})
    assert inputs_tag(image, made) == tag + made.inputs


def test_another_architecture_is_another_image_and_is_built_on_a_node_of_it() -> None:
    amd, arm = recipe("dynamo-sglang", {}), recipe("dynamo-sglang", {}, "arm64")
    assert amd.inputs != arm.inputs
    pod = documents(ClusterOptions(), "host/x:1", arm)[0]["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"kubernetes.io/arch": "arm64"}
    assert [t["value"] for t in pod["tolerations"]] == ["arm64"]


def test_the_smoke_test_of_an_image_for_one_architecture_runs_on_a_node_of_it() -> None:
    options = ClusterOptions(gpu_node_selector={"pool": "gb200"})
    (job,) = smoke_test.documents(options, "host/x@sha256:0", ["deep_ep"], gpu="nvidia.com/gpu", arch="arm64")
    pod = job["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"kubernetes.io/arch": "arm64", "pool": "gb200"}
    assert {t["key"] for t in pod["tolerations"]} == {"nvidia.com/gpu", "kubernetes.io/arch"}
    assert pod["containers"][0]["resources"] == {"limits": {"nvidia.com/gpu": "2"}}
    (any_node,) = smoke_test.documents(ClusterOptions(), "host/x@sha256:0", ["csv"], gpu="")
    assert "nodeSelector" not in any_node["spec"]["template"]["spec"]


def test_a_build_takes_the_resources_and_the_cache_that_were_asked_for() -> None:
    options = ClusterOptions(build_cpu="16", build_memory="64Gi", build_no_cache=True)
    (container,) = documents(options, "host/x:1", recipe("dynamo-sglang", {"CUDA_ARCH_LIST": "9.0;10.0"}))[0]["spec"][
        "template"
    ]["spec"]["containers"]
    assert container["resources"]["requests"] == {"cpu": "16", "memory": "64Gi"}
    assert {"--no-cache", "--opt=build-arg:CUDA_ARCH_LIST=9.0;10.0"} <= {*container["command"]}


def test_the_job_runs_rootless_and_gets_the_login_as_a_file() -> None:
    options = ClusterOptions(registry_secret="login", plain_http_registries=("host:5000",))
    (job, files) = documents(options, "host:5000/x:1", recipe("benchmark", {"PYTHON_IMAGE": "p:1"}))
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["securityContext"]["runAsUser"] == 1000
    assert "privileged" not in container["securityContext"]
    assert not pod["automountServiceAccountToken"]
    assert {"name": "DOCKER_CONFIG", "value": "/wideloop/login"} in container["env"]
    made = recipe("benchmark", {"PYTHON_IMAGE": "p:1"})
    assert container["command"][4:] == [
        f'--output=type=image,"name=host:5000/x:1,host:5000/x:inputs-{made.inputs}",push=true,registry.insecure=true',
        "--opt=build-arg:PYTHON_IMAGE=p:1",
    ]
    flags = next(one["value"] for one in container["env"] if one["name"] == "BUILDKITD_FLAGS")
    assert flags == "--oci-worker-no-process-sandbox --config=/wideloop/context/buildkitd.toml"
    settings = tomllib.loads(base64.b64decode(files["binaryData"]["buildkitd.toml"]).decode())
    assert settings == {"registry": {"host:5000": {"http": True, "insecure": True}}}
    assert gzip.decompress(base64.b64decode(files["binaryData"]["context.tar.gz"])) == made.archive
    assert "suspend" not in job["spec"], "one whose maker dies would stay for ever: only a started Job has a limit"
    assert job["spec"]["activeDeadlineSeconds"] == 7200
