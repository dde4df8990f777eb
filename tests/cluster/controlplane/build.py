#!/usr/bin/env python3
"""Build etcd, kube-apiserver, kube-controller-manager, kube-scheduler and kubectl from the Go module beside this file.

The binaries lie in ``<home>/controlplane/<key>``, where the key covers the pinned modules, the linker's flags and
the machine; a folder of that name is complete. Only one process builds at a time; the others wait for it.

    build.py               build, or return at once when they are there (about 8 minutes on two cores, 2.2 GB)
    build.py --background  start that at low priority and return, so that other tests can run meanwhile

Uses the standard library only: it runs before any environment is needed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODULE = Path(__file__).resolve().parent
#: Run by its path: nothing is importable before the first environment is made.
home_folder = runpy.run_path(str(MODULE.parents[2] / "operators" / "bootstrap.py"))["home_folder"]

NAMES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
_PARTIAL = "building-"
#: What ``go install`` calls a binary that we call otherwise.
_INSTALLED_AS = {"etcd": "server"}
#: Without a version kube-apiserver calls itself 0.0.0, and clients that compare versions go astray.
_STAMPED = "k8s.io/component-base/version"


class CannotBuild(Exception):
    """The text says what is missing."""


def kubernetes_version() -> str:
    """The pinned version, e.g. ``v1.36.2``."""
    found = re.search(r"k8s\.io/kubernetes (v[\d.]+)", (MODULE / "go.mod").read_text())
    assert found, "go.mod requires k8s.io/kubernetes"
    return found[1]


def linker_flags() -> str:
    """Strip symbols (half the size) and stamp the version."""
    version = kubernetes_version()
    major, minor, _ = version[1:].split(".")
    stamp = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return " ".join(["-s -w", *(f"-X {_STAMPED}.{name}={value}" for name, value in stamp.items())])


def folder(home: Path) -> Path:
    """Where the binaries lie once they are built."""
    digest = hashlib.sha256((platform.system() + platform.machine()).encode())
    for part in ((MODULE / "go.mod").read_bytes(), (MODULE / "go.sum").read_bytes(), linker_flags().encode()):
        digest.update(part)
    return home / "controlplane" / digest.hexdigest()[:12]


def build(home: Path) -> Path:
    """The folder with the binaries, built when they are not there.

    Raises:
        CannotBuild: no Go, or its build failed.
    """
    there = folder(home)
    if there.is_dir():
        return there
    if shutil.which("go") is None:
        raise CannotBuild("go 1.26 or newer is not on PATH; install it, or set KUBEBUILDER_ASSETS (setup-envtest)")
    there.parent.mkdir(parents=True, exist_ok=True)
    with (there.parent / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not there.is_dir():
            _install(there)
    return there


def _install(there: Path) -> None:
    started = time.monotonic()
    print(f"wideloop: building the control plane of the cluster tests, Kubernetes {kubernetes_version()}", flush=True)
    for abandoned in there.parent.glob(f"{_PARTIAL}*"):  # by a build that was killed: the lock is ours
        shutil.rmtree(abandoned)
    with tempfile.TemporaryDirectory(prefix=_PARTIAL, dir=there.parent) as temporary:
        binaries = Path(temporary) / "bin"
        environment = {**os.environ, "GOBIN": str(binaries), "GOWORK": "off"}
        command = ["go", "install", "-p", "2", "-mod=readonly", "-ldflags", linker_flags(), "tool"]
        done = subprocess.run(command, cwd=MODULE, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CannotBuild(f"{' '.join(command[:2])} failed in {MODULE}:\n{done.stderr[-2000:]}")
        for name, installed in _INSTALLED_AS.items():
            (binaries / installed).rename(binaries / name)
        binaries.rename(there)
    print(f"wideloop: control plane built in {time.monotonic() - started:.0f} s", flush=True)


def _background(home: Path) -> None:
    """Build in a process of its own that outlives this one; nothing when the binaries are there."""
    if folder(home).is_dir():
        return
    log = home / "controlplane" / "build.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    print(f"wideloop: building the control plane meanwhile, see {log}", flush=True)
    with log.open("w") as out:
        command = ["nice", "-n", "10", sys.executable, __file__]
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)


def main() -> int:
    if sys.argv[1:] == ["--background"]:
        _background(home_folder())
        return 0
    try:
        print(build(home_folder()))
    except CannotBuild as error:
        print(f"wideloop: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
