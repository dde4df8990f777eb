"""Where pods find a model: on the claim, or in a folder that the nodes have themselves."""

from typing import Any

import pytest
from wideloop.manifests.engines.base import Command
from wideloop.manifests.kubernetes import model_cache
from wideloop.manifests.kubernetes.jobs import client_job
from wideloop.manifests.kubernetes.options import ClusterOptions

OPTIONS = ClusterOptions(model_claim="models", model_mount="/model-cache")


@pytest.mark.parametrize(
    ("path", "volume", "mount"),
    [
        ("/model-cache/kimi", {"persistentVolumeClaim": {"claimName": "models"}}, "/model-cache"),
        ("/model-cache", {"persistentVolumeClaim": {"claimName": "models"}}, "/model-cache"),
        (
            "/model-cache-2/kimi",
            {"hostPath": {"path": "/model-cache-2/kimi", "type": "Directory"}},
            "/model-cache-2/kimi",
        ),
        ("/mnt/nfs/kimi", {"hostPath": {"path": "/mnt/nfs/kimi", "type": "Directory"}}, "/mnt/nfs/kimi"),
        ("org/from-the-hub", {"persistentVolumeClaim": {"claimName": "models"}}, "/model-cache"),
    ],
)
def test_a_path_outside_of_the_claim_is_the_nodes_own(path, volume, mount):
    assert model_cache.model_volume(OPTIONS, path) == (volume, mount)


def pod_of(document: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Its volumes and mounts by name."""
    spec = document["spec"]["template"]["spec"]
    mounts = {m["name"]: m for m in spec["containers"][0]["volumeMounts"]}
    return {v["name"]: v for v in spec["volumes"]}, mounts


def test_a_load_generator_reads_the_tokenizer_where_the_engines_do():
    job = client_job("d", "bench", Command(argv=("true",)), OPTIONS, "image:1", [], model_path="/mnt/nfs/kimi")
    volumes, mounts = pod_of(job)
    assert volumes["models"]["hostPath"]["path"] == mounts["models"]["mountPath"] == "/mnt/nfs/kimi"


@pytest.mark.parametrize(
    ("path", "kind"), [("/mnt/nfs/kimi", "hostPath"), ("/model-cache/kimi", "persistentVolumeClaim")]
)
def test_a_model_that_is_there_is_verified_and_not_changed(path, kind):
    folder, documents = model_cache.verify_documents(OPTIONS, path, needs_weights=True)
    volumes, mounts = pod_of(documents[0])
    assert folder == path
    assert kind in volumes["models"]
    assert mounts["models"]["readOnly"] is True
    assert documents[0]["spec"]["template"]["spec"]["containers"][0]["command"][-3:] == ["--folder", path, "--verify"]
