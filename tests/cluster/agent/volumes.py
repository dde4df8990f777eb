"""A pod's volumes as folders of this machine."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.agent.api import Api
from tests.cluster.agent.environment import Sources, field

Document = dict[str, Any]


class CannotMount(Exception):
    """What a kubelet reports in a FailedMount event."""


@dataclass(frozen=True)
class Mount:
    """One mount of a container: what lies where, and whether it may be written."""

    source: Path
    target: str
    read_only: bool


def references(pod: Document) -> set[tuple[str, str]]:
    """The ConfigMaps and Secrets a pod's volumes name."""
    return {(kind, name) for volume in pod["spec"].get("volumes", ()) for kind, name, _ in _named(volume)}


def _named(volume: Document) -> list[tuple[str, str, Document]]:
    """Kind, name and reference of each ConfigMap and Secret in a volume."""
    found = []
    for part in [volume, *volume.get("projected", {}).get("sources", ())]:
        if "configMap" in part:
            found.append(("ConfigMap", part["configMap"]["name"], part["configMap"]))
        if "secret" in part:
            reference = part["secret"]
            found.append(("Secret", reference.get("secretName") or reference["name"], reference))
    return found


class Volumes:
    """Makes the volumes of one pod below ``folder``."""

    def __init__(self, api: Api, pod: Document, folder: Path, sources: Sources) -> None:
        self._api = api
        self._pod = pod
        self._folder = folder
        self._sources = sources

    async def make(self) -> dict[str, Path]:
        """Folder of each volume by its name.

        Raises:
            CannotMount: one cannot be made; the text is a kubelet's.
        """
        return {volume["name"]: await self._one(volume) for volume in self._pod["spec"].get("volumes", ())}

    async def _one(self, volume: Document) -> Path:
        if "persistentVolumeClaim" in volume:
            return await self._claimed(volume["persistentVolumeClaim"]["claimName"])
        # A host's folder is an empty one of the pod's own: nothing of this machine is handed to pods.
        if not {"emptyDir", "hostPath", "configMap", "secret", "projected", "downwardAPI"} & set(volume):
            kind = next(key for key in volume if key != "name")
            raise CannotMount(f'MountVolume.SetUp failed for volume "{volume["name"]}" : {kind} is not offered here')
        folder: Path = self._folder / volume["name"]
        folder.mkdir(parents=True, exist_ok=True)
        for kind, name, reference in _named(volume):
            self._write(folder, volume["name"], kind, name, reference)
        for part in [volume, *volume.get("projected", {}).get("sources", ())]:
            for item in part.get("downwardAPI", {}).get("items", ()):
                (folder / item["path"]).write_text(field(self._pod, item["fieldRef"]["fieldPath"]))
            if "serviceAccountToken" in part:
                await self._token(folder, part["serviceAccountToken"])
        return folder

    def _write(self, folder: Path, volume: str, kind: str, name: str, reference: Document) -> None:
        data = self._sources.get((kind, name))
        if data is None:
            if reference.get("optional"):
                return
            raise CannotMount(f'MountVolume.SetUp failed for volume "{volume}" : {kind.lower()} "{name}" not found')
        items = reference.get("items") or [{"key": key, "path": key} for key in data]
        for item in items:
            if item["key"] not in data:
                key = item["key"]
                raise CannotMount(
                    f'MountVolume.SetUp failed for volume "{volume}" : references non-existent key: {key}'
                )
            path = folder / item["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data[item["key"]].encode(errors="surrogateescape"))
            path.chmod(item.get("mode", reference.get("defaultMode", 0o644)))

    async def _token(self, folder: Path, wanted: Document) -> None:
        account = self._pod["spec"].get("serviceAccountName", "default")
        namespace, name = self._pod["metadata"]["namespace"], self._pod["metadata"]["name"]
        bound = {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": self._pod["metadata"]["uid"]}
        spec: Document = {"expirationSeconds": wanted.get("expirationSeconds", 3600), "boundObjectRef": bound}
        spec["audiences"] = [wanted["audience"]] if wanted.get("audience") else []
        answer = await self._api.create(
            f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token",
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec},
        )
        (folder / wanted["path"]).write_text(answer["status"]["token"])

    async def _claimed(self, name: str) -> Path:
        namespace = self._pod["metadata"]["namespace"]
        claim = await self._api.find(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}")
        if claim is None or claim["status"].get("phase") != "Bound":
            raise CannotMount(f'persistentvolumeclaim "{name}" not bound')
        volume = await self._api.get(f"/api/v1/persistentvolumes/{claim['spec']['volumeName']}")
        if "hostPath" not in volume["spec"]:
            raise CannotMount(f"persistentvolume {volume['metadata']['name']} is not of the provisioner of the tests")
        return Path(volume["spec"]["hostPath"]["path"])


def mounts(container: Document, pod: Document, folders: Mapping[str, Path]) -> list[Mount]:
    """The mounts of a container, outer folders first.

    Raises:
        CannotMount: a ``subPath`` that is not there.
    """
    read_only = {
        volume["name"]
        for volume in pod["spec"].get("volumes", ())
        if volume.get("persistentVolumeClaim", {}).get("readOnly")
        or {"configMap", "secret", "projected", "downwardAPI"} & set(volume)
    }
    found = []
    for mount in container.get("volumeMounts", ()):
        name, source = mount["name"], folders[mount["name"]]
        if "subPath" in mount:
            source = source / mount["subPath"]
            if not source.exists():
                if name in read_only:
                    raise CannotMount(
                        f'failed to prepare subPath for volumeMount "{name}" of container "{container["name"]}"'
                    )
                source.mkdir(parents=True)
        found.append(Mount(source, mount["mountPath"], mount.get("readOnly", False) or name in read_only))
    return sorted(found, key=lambda one: one.target.count("/"))


async def read_sources(api: Api, namespace: str, wanted: set[tuple[str, str]]) -> dict[tuple[str, str], dict[str, str]]:
    """The data of ConfigMaps and Secrets; those that do not exist are left out. Bytes become surrogate escapes."""
    found = {}
    for kind, name in wanted:
        plural = "configmaps" if kind == "ConfigMap" else "secrets"
        document = await api.find(f"/api/v1/namespaces/{namespace}/{plural}/{name}")
        if document is None:
            continue
        encoded = document.get("data" if kind == "Secret" else "binaryData") or {}
        data = {key: base64.b64decode(value).decode(errors="surrogateescape") for key, value in encoded.items()}
        found[(kind, name)] = data | ({} if kind == "Secret" else document.get("data") or {})
    return found
