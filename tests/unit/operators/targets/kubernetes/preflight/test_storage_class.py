"""What the name of a provisioner tells about ReadWriteMany."""

from __future__ import annotations

import pytest
from wideloop.operators.targets.kubernetes.preflight.storage import check_class

DEFAULT = {"storageclass.kubernetes.io/is-default-class": "true"}


def storage_class(name: str, provisioner: str, default: bool = False) -> dict:
    return {"metadata": {"name": name, "annotations": DEFAULT if default else {}}, "provisioner": provisioner}


NFS = storage_class("shared", "nfs.csi.k8s.io")
EBS = storage_class("fast", "ebs.csi.aws.com", default=True)


@pytest.mark.parametrize(
    ("wanted", "classes", "state", "said"),
    [
        ("shared", [NFS, EBS], "ok", ""),
        (None, [storage_class("files", "filestore.csi.storage.gke.io", default=True)], "ok", ""),
        ("azure", [storage_class("azure", "file.csi.azure.com")], "ok", ""),
        (None, [NFS, EBS], "error", "is provided by ebs.csi.aws.com, whose volumes only one node can mount"),
        ("disk", [storage_class("disk", "disk.csi.azure.com")], "error", "only one node can mount"),
        ("own", [storage_class("own", "example.com/own")], "warning", "of which we do not know"),
        ("other", [NFS, EBS], "error", "does not exist; there are fast, shared"),
        (None, [NFS], "error", "is not set, and the cluster has no default"),
        (None, [], "error", "is not set, and the cluster has no default"),
    ],
)
def test_a_class_by_its_provisioner(wanted: str | None, classes: list[dict], state: str, said: str) -> None:
    found = check_class(wanted, classes)
    assert found.state == state
    assert said in " ".join(f.rule for f in found.findings)


def test_the_class_to_use_is_named() -> None:
    (finding,) = check_class(None, [NFS, EBS]).findings
    assert finding.suggestion == "Set storage_class to shared"
