"""An environment that the users of this host installed themselves: what is in it stands for an image's digest."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.engines.base import Need
from wideloop.manifests.errors import TargetError
from wideloop.manifests.findings import Finding

_LIST = """
import importlib.metadata, json
found = {(d.name or "").lower().replace("_", "-"): d.version for d in reversed([*importlib.metadata.distributions()])}
print(json.dumps(sorted(f"{name}=={version}" for name, version in found.items())))
"""


@lru_cache(maxsize=8)
def packages(python: Path) -> tuple[str, ...]:
    """``name==version`` of everything that ``python`` can import, sorted; read once in the life of this process.

    Raises:
        TargetError: it is no Python that runs.
    """
    try:
        done = subprocess.run([str(python), "-c", _LIST], capture_output=True, text=True, check=False)
    except OSError as error:
        raise TargetError(f"{python} cannot be run: {error}") from error
    if done.returncode:
        raise TargetError(f"{python} cannot list its packages:\n{done.stderr[-500:]}")
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def digest(python: Path, options: Sequence[str]) -> str:
    """``sha256:`` of the packages and of the options every start gets: equal where results can be compared."""
    return "sha256:" + hashlib.sha256(json.dumps([packages(python), *options]).encode()).hexdigest()


def version(python: Path, package: str) -> str | None:
    """The installed version of ``package``, None when there is none."""
    versions = (p.partition("==")[2] for p in packages(python) if p.startswith(f"{package}=="))
    return next(versions, None)


def other_version(spec: DeploymentSpec, python: Path) -> Finding | None:
    """The engine's flags are those of the version asked for, which must be the one that is there."""
    installed_version = version(python, spec.engine)
    if installed_version is None or installed_version == spec.engine_version:
        return None
    rule = f"{python} has {spec.engine} {installed_version}"
    return Finding(field="engine_version", value=spec.engine_version, rule=rule, suggestion=f"Use {installed_version}")


def missing(spec: DeploymentSpec, python: Path, needs: Iterable[Need]) -> list[Finding]:
    """What is needed of ``needs`` and not there, with the command that installs it."""
    return [
        Finding(
            field="engine",
            value=spec.engine,
            rule=f"{python} has no {' or '.join(need.packages)}, which {need.purpose} needs",
            suggestion=f"Run {python} -m pip install {need.packages[0]}",
        )
        for need in needs
        if not any(version(python, package) for package in need.packages)
    ]
