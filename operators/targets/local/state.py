"""The state folder of the local target: the deployments that were started here, their owners, and their locks.

One folder per deployment, so that any process can pick up where another died::

    <home>/local/<deployment>/
        deployment.json            spec, owner, ports; written before the first process starts
        ready                      present once a real generation was answered
        shared/                    what the components share (service discovery)
        components/<component>/    process.json, exit, log, and the component's own files
        clients/<client>/          the same for load generators
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from wideloop.manifests.deployment import MAX_NAME, NAME_RULE, DeploymentSpec, is_name
from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import Finding
from wideloop.operators.targets.base import Owned, Owner
from wideloop.operators.targets.files import read_as
from wideloop.operators.targets.local.process import ProcessRecord, end_marked, marked, marked_below

_ALL = ".all"


class Deployment(BaseModel):
    """What ``deployment.json`` holds. A standby has processes that wait for the rest of their flags, and no GPU."""

    model_config = ConfigDict(frozen=True)

    spec: DeploymentSpec
    owner: Owner
    created_at: datetime
    ports: dict[str, dict[str, int]]
    standby: bool = False


class State:
    """The deployments below ``root``. Names come from forms and files, so each is checked before it is a path."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def folder(self, name: str) -> Path:
        """The folder of a deployment, whether or not it exists.

        Raises:
            Refused: ``name`` is none, or its folder is a link to somewhere else.
        """
        return _child(self._root, "deployment", name)

    def component(self, name: str, component: str) -> ProcessRecord:
        return ProcessRecord(_child(self.folder(name) / "components", "component", component))

    def client(self, name: str, client: str) -> ProcessRecord:
        return ProcessRecord(_child(self.folder(name) / "clients", "client", client))

    def read(self, name: str) -> Deployment | None:
        """The description of a deployment; None when there is none, or another version wrote it."""
        return read_as(Deployment, self.folder(name) / "deployment.json")

    def deployments(self) -> list[Deployment]:
        """Every deployment that has a description."""
        return [d for name in sorted(self._folders()) if (d := self.read(name)) is not None]

    def owned(self) -> list[Owned]:
        """Every deployment that has a folder or a living process."""
        # Processes first: whatever comes up from now on has its description before its first process.
        names = self.alive() | self._folders()
        described = {d.spec.name: d for d in self.deployments()}
        owned = [Owned(name=n, owner=d.owner, created_at=d.created_at) for n, d in described.items()]
        # A folder without a description is a leftover, unless another process holds its lock and is replacing it.
        for name in sorted(names - described.keys()):
            with self.locked(name):
                lost = self.read(name) is None
            if lost:
                owned.append(Owned(name=name, owner=None, created_at=None))
        return owned

    def alive(self) -> set[str]:
        """Names of deployments of which a process lives, clients included."""
        marks = {mark.relative_to(self._root) for mark in marked_below(self._root)}
        return {mark.parts[0] for mark in marks if mark.parts and self._is_ours(mark.parts[0])}

    def pids(self) -> set[int]:
        """All living processes that this project started."""
        return {process.pid for process, _ in marked(self._root)}

    def remove(self, name: str, grace_s: float) -> None:
        """End every process of a deployment and forget it; none is no error."""
        folder = self.folder(name)
        end_marked(folder, grace_s)
        # The description goes last: until then the janitor can find what is left.
        for entry in folder.glob("*"):
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """One change of a deployment at a time, across processes."""
        self.folder(name)
        with self._lock(name):
            yield

    @contextlib.contextmanager
    def all_locked(self) -> Iterator[None]:
        """One start at a time on this host. Taken inside a deployment's lock, never around one."""
        with self._lock(_ALL):
            yield

    @contextlib.contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        locks = self._root / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        with (locks / name).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _folders(self) -> set[str]:
        return {p.name for p in self._root.glob("*") if p.is_dir() and self._is_ours(p.name)}

    def _is_ours(self, name: str) -> bool:
        """Whether ``name`` could be a deployment; links and other names are not this project's."""
        return is_name(name) and not (self._root / name).is_symlink()


def _child(parent: Path, field: str, name: str) -> Path:
    """``parent / name`` when that can only be a folder right below ``parent``.

    Raises:
        Refused: it cannot.
    """
    folder = parent / name
    if not is_name(name):
        suggestion = f"Use the name it was started with, e.g. deploy-0a1b2c3d4e (at most {MAX_NAME} characters)"
        raise Refused([Finding(field=field, value=name, rule=NAME_RULE, suggestion=suggestion)])
    if folder.is_symlink():
        rule = f"its folder {folder} is a link, and what it points to may not be ours"
        raise Refused([Finding(field=field, value=name, rule=rule, suggestion="Remove the link, or use another name")])
    return folder
