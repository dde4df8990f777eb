#!/usr/bin/env python3
"""Bring what the tests need from the operating system: browser, PostgreSQL, network namespaces, images and a registry.

Installs by apt-get when it may (root on Debian or Ubuntu), else says in one line what to install.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

#: Of the cluster tests: pods' networks, and images that are really built, pushed and read.
_CLUSTER = {
    "ip": "iproute2",
    "buildah": "buildah",
    "docker-registry": "docker-registry",
    "skopeo": "skopeo",
    "busybox": "busybox-static",
}


def missing() -> "list[str]":
    """The Debian packages whose programs are not here."""
    wanted = []
    if not any(shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")):
        wanted.append("chromium")
    if not shutil.which("initdb") and not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        wanted.append("postgresql")
    if sys.platform == "linux":
        wanted += [package for program, package in _CLUSTER.items() if shutil.which(program) is None]
    return wanted


def main() -> int:
    packages = missing()
    if not packages:
        return 0
    names = " ".join(packages)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(f"wideloop: the tests need {names}; run: sudo apt-get install {names}", file=sys.stderr)
        return 2
    print(f"wideloop: installing {names} by apt-get", flush=True)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", *packages]):
        done = subprocess.run(command, env=quiet, stdout=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            print(f"wideloop: {' '.join(command)} failed, see above", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
