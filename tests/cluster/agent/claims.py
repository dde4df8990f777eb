"""A provisioner of PersistentVolumeClaims: a folder of this machine for each."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

from tests.cluster.agent.api import Api, ApiError

Document = dict[str, Any]
PROVISIONER = "wideloop.test/folder"


def storage_class(name: str, *, default: bool) -> Document:
    """A class whose claims are folders, bound at once, with any access mode."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": name,
            "annotations": {"storageclass.kubernetes.io/is-default-class": str(default).lower()},
        },
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
    }


class Provisioner:
    """Makes a volume for each claim of its classes, and removes it once it is released."""

    def __init__(self, api: Api, folder: Path) -> None:
        self._api = api
        self._folder = folder

    async def claims(self) -> None:
        """Serve claims for ever."""
        async for kind, found in self._api.watch("/api/v1/persistentvolumeclaims"):
            for claim in found if kind == "LIST" else [found]:
                by = claim["metadata"].get("annotations", {}).get("volume.kubernetes.io/storage-provisioner")
                if kind != "DELETED" and by == PROVISIONER and not claim["spec"].get("volumeName"):
                    with contextlib.suppress(ApiError):  # it is there already
                        await self._provision(claim)

    async def volumes(self) -> None:
        """Remove released volumes for ever."""
        async for kind, found in self._api.watch("/api/v1/persistentvolumes"):
            for volume in found if kind == "LIST" else [found]:
                by = volume["metadata"].get("annotations", {}).get("pv.kubernetes.io/provisioned-by")
                if kind != "DELETED" and by == PROVISIONER and volume["status"].get("phase") == "Released":
                    shutil.rmtree(volume["spec"]["hostPath"]["path"], ignore_errors=True)
                    await self._api.delete(f"/api/v1/persistentvolumes/{volume['metadata']['name']}")

    async def _provision(self, claim: Document) -> None:
        metadata, spec = claim["metadata"], claim["spec"]
        name = f"pvc-{metadata['uid']}"
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        reference = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
        reference |= {key: metadata[key] for key in ("name", "namespace", "uid")}
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER}},
            "spec": {
                "capacity": spec["resources"]["requests"],
                "accessModes": spec["accessModes"],
                "persistentVolumeReclaimPolicy": "Delete",
                "storageClassName": spec["storageClassName"],
                "claimRef": reference,
                "hostPath": {"path": str(folder)},
            },
        }
        await self._api.create("/api/v1/persistentvolumes", volume)
